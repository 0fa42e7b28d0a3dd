"""What packed layers take, and how far their answers lie from those they stand for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.packed import sizes
from chimera_lib.ternary.packed.layers import NothingToPack, pack


def network() -> nn.Sequential:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 20, bias=False), nn.Linear(20, 2))
    return convert(plain, mode="chimera", skip=["4"]).eval()


def test_bytes_are_counted_with_their_scales() -> None:
    conv, linear = sizes.by_layer(pack(network()))
    assert (conv.layer, conv.weights, conv.stored) == ("0", 216, 54 + 4)
    assert (linear.layer, linear.weights, linear.stored) == ("3", 640, 160 + 4)
    assert linear.times_smaller == pytest.approx(2560 / 164) and linear.bits == pytest.approx(8 * 164 / 640)
    assert sizes.times_smaller([conv, linear]) == pytest.approx(4 * 856 / 222)
    ternary = [module for module in network() if hasattr(module, "quantizer")]
    for size, layer in zip((conv, linear), ternary, strict=True):
        zeros = (layer.quantizer.trits(layer.weight).codes == 0).float().mean()
        assert size.zero_ratio == pytest.approx(float(zeros)) and 0 < size.effective_bits <= 1.585


def test_five_a_byte_are_smaller_still_and_the_rest_counts_in_the_whole() -> None:
    two, five = (pack(network(), codec=codec) for codec in ("2bit", "base3"))
    assert [size.stored for size in sizes.by_layer(five)] == [44 + 4, 20 * 7 + 4]
    rest = 4 * (8 + 42)  # bias of the convolution, and the last layer
    assert sizes.state_bytes(two) == 58 + 164 + rest and sizes.state_bytes(five) == 48 + 144 + rest


def test_a_model_without_packed_layers_has_no_sizes() -> None:
    with pytest.raises(NothingToPack, match=r"Sequential has no packed layer: pack\(model\) makes them"):
        sizes.by_layer(network())


def test_differences_are_found_layer_by_layer_on_the_layers_own_inputs() -> None:
    ternary, x = network(), torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    packed = pack(ternary)
    found = sizes.differences(ternary, packed, x)
    assert found["0"] == 0 and found["3"] < 1e-6
    packed.get_submodule("3").plus.mul_(1.25)
    found = sizes.differences(ternary, packed, x)
    assert found["0"] == 0 and found["3"] == pytest.approx(0.25, rel=1e-4)
    assert not any(layer._forward_pre_hooks for layer in ternary.modules())
