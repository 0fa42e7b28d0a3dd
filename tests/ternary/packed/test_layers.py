"""Packed layers answer as the fake-quantised ones do, and exact arithmetic says which of the two is nearer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.layers import BitConv2d, BitLinear
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.layers import NothingToPack, PackedBitConv2d, PackedBitLinear, pack
from chimera_lib.ternary.packed.storage import CannotPack
from chimera_lib.ternary.resnet import ChimeraResNet20

CODECS = ("2bit", "base3")
MODES = ("chimera", "strict_bitnet", "ttq", "lsq")


@pytest.fixture(autouse=True)
def eager() -> Any:
    """Without compiling: `test_matvec.py` has the compiled kernels."""
    matvec.use_eager("these tests are of what does not depend on it")
    yield
    matvec.use_eager()


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference relative to the largest magnitude."""
    expected = expected.detach().double()
    return float((found.detach().double() - expected).abs().max() / expected.abs().max())


def linear(n: int, k: int, seed: int = 0, **options: Any) -> BitLinear:
    torch.manual_seed(seed)
    return BitLinear(k, n, **options).eval()


shapes = st.tuples(st.integers(1, 40), st.integers(1, 60), st.lists(st.integers(0, 3), max_size=3))
kinds = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(MODES),
        "activation": st.sampled_from(["int8", None]),
        "bias": st.booleans(),
        "per_channel": st.booleans(),
    }
)


@given(shapes, kinds, st.sampled_from(CODECS), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_any_linear_layer_and_any_leading_dimensions(
    shape: tuple[int, int, list[int]], options: dict[str, Any], codec: str, seed: int
) -> None:
    n, k, leading = shape
    layer = linear(n, k, seed, **options)
    x = torch.randn(*leading, k)
    expected = layer(x).detach()
    found = PackedBitLinear.from_layer(layer, codec=codec)(x)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert not found.numel() or distance(found, expected) < 1e-5 or torch.equal(found, expected)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ["int8", None])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2), "bias": False},
        {"padding": "same", "dilation": 2, "groups": 2},
        {"padding": 2, "padding_mode": "circular", "groups": 4},
        {"padding": "same", "padding_mode": "reflect"},
        {"padding": "valid", "padding_mode": "replicate", "stride": 2},
    ],
    ids=str,
)
def test_a_packed_convolution_is_bit_for_bit_the_fake_quantised_one(
    codec: str, mode: str, activation: str | None, options: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    layer = BitConv2d(4, 8, (3, 5), mode=mode, activation=activation, **options).eval()
    packed = PackedBitConv2d.from_layer(layer, codec=codec)
    for shape in ((2, 4, 9, 11), (4, 9, 11)):
        x = torch.randn(shape)
        assert torch.equal(packed(x), layer(x))
    assert torch.equal(packed.weight, layer.quantizer(layer.weight))


@pytest.mark.parametrize("k", [256, 4096, 16384, 65536])
@pytest.mark.parametrize("mode", ["chimera", "ttq"])
def test_against_exact_sums_the_packed_layer_is_the_nearer_one(k: int, mode: str) -> None:
    layer = linear(24, k, mode=mode, bias=True)
    if mode == "ttq":
        with torch.no_grad():
            layer.quantizer.minus.mul_(1.37)
    x = torch.randn(33, k).exp()  # all of one sign: sums do not stay near zero
    codes, plus, minus = layer.quantizer.trits(layer.weight)
    levels, step = layer.activation.codes(x)
    ones, minus_ones = ((levels.long() @ (codes.t() == sign).long()).double() for sign in (1, -1))
    exact = step.double() * (plus.double() * ones - minus.double() * minus_ones) + layer.bias.double()
    packed, fake = (distance(one(x), exact) for one in (PackedBitLinear.from_layer(layer), layer))
    assert packed < 3e-7
    assert packed < fake * 1.5
    assert distance(PackedBitLinear.from_layer(layer)(x), layer(x)) < 1e-5


def test_inputs_of_any_strides() -> None:
    """A dimension of one may have any stride; torch's int8 product has gone by it."""
    for n, k in ((1, 2), (5, 30)):
        packed = PackedBitLinear.from_layer(linear(n, k))
        for x in (
            torch.randn(k, 1).t(),
            torch.randn(k, 3).t(),
            torch.randn(3, 2 * k)[:, ::2],
            torch.randn(k).expand(4, k),
        ):
            assert torch.equal(
                packed(x), packed(x.clone(memory_format=torch.contiguous_format).reshape(-1).view(-1, k))
            )


def test_two_scales_are_each_used_for_its_sign() -> None:
    layer = linear(5, 30, mode="ttq", activation=None, bias=False)
    with torch.no_grad():
        layer.quantizer.plus.fill_(2.0)
        layer.quantizer.minus.fill_(0.25)
    packed = PackedBitLinear.from_layer(layer)
    codes = layer.quantizer.trits(layer.weight).codes
    by_hand = torch.tensor([[{1: 2.0, 0: 0.0, -1: -0.25}[c] for c in row] for row in codes.tolist()])
    assert torch.equal(packed.weight, by_hand)
    assert torch.equal(packed(torch.eye(30)).t(), by_hand)


def test_a_symmetric_layer_keeps_one_scale() -> None:
    assert PackedBitLinear.from_layer(linear(5, 30)).minus is None
    assert PackedBitLinear.from_layer(linear(5, 30, mode="ttq")).minus is not None


@pytest.mark.parametrize(("codec", "least"), [("2bit", 15), ("base3", 18)])
@pytest.mark.parametrize("mode", MODES)
def test_sizes_reach_the_bars_at_realistic_layers(codec: str, least: float, mode: str) -> None:
    for n, k in ((4096, 4096), (768, 3072), (576, 192)):
        packed = PackedBitLinear.from_layer(linear(n, k, mode=mode), codec=codec)
        assert 4 * n * k / packed.storage() >= least
        assert packed.storage() == sum(b.numel() * b.element_size() for b in packed.buffers())
    model = pack(ChimeraResNet20(mode), codec=codec)
    layers = [one for one in model.modules() if isinstance(one, PackedBitConv2d)]
    assert len(layers) == 18
    for one in layers:
        assert 4 * one.weight_shape.numel() / one.storage() >= least


def test_what_small_layers_and_scales_for_each_channel_cost() -> None:
    """A scale is 4 bytes: 20 more trits of 1.6 bits. These fall short of the bars, and the docs say so."""
    first = BitConv2d(3, 16, 3, mode="chimera")
    ratios = [4 * 432 / PackedBitConv2d.from_layer(first, codec=codec).storage() for codec in CODECS]
    assert ratios == [pytest.approx(1728 / (108 + 4)), pytest.approx(1728 / (87 + 4))]
    row = PackedBitLinear.from_layer(linear(16, 27, per_channel=True))
    assert row.storage() == 16 * (7 + 4)


@pytest.mark.parametrize("codec", CODECS)
def test_a_state_dict_goes_round(codec: str) -> None:
    layer = linear(12, 50, mode="ttq")
    packed = PackedBitLinear.from_layer(layer, codec=codec)
    other = PackedBitLinear.from_layer(linear(12, 50, seed=5, mode="ttq"), codec=codec)
    x = torch.randn(3, 50)
    assert not torch.equal(other(x), packed(x))
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other(x), packed(x))


def test_a_state_dict_of_another_codec_or_with_bad_bytes_is_refused() -> None:
    packed = PackedBitLinear.from_layer(linear(12, 5))
    with pytest.raises(RuntimeError, match=r"Missing key.*packed_2bit(.|\n)*Unexpected key.*packed_base3"):
        packed.load_state_dict(PackedBitLinear.from_layer(linear(12, 5), codec="base3").state_dict())
    state = {name: tensor.clone() for name, tensor in packed.state_dict().items()}
    state["packed_2bit"][3, 1] = 0b10
    before = packed.packed.clone()
    with pytest.raises(RuntimeError, match="packed_2bit: byte 2 is no code of four 2-bit trits"):
        packed.load_state_dict(state)
    assert torch.equal(packed.packed, before)


def test_unpacked_codes_are_kept_only_where_asked_and_never_outdated() -> None:
    kept, other = (PackedBitLinear.from_layer(linear(6, 40, seed=s), keep_unpacked=True) for s in (0, 1))
    x = torch.randn(9, 40)
    before = kept(x)
    assert kept.codes() is kept.codes()
    kept.load_state_dict(other.state_dict())
    assert torch.equal(kept(x), other(x)) and not torch.equal(kept(x), before)
    once = PackedBitLinear.from_layer(linear(6, 40))
    assert once.codes() is not once.codes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["chimera", "ttq"])
@pytest.mark.parametrize("activation", ["int8", None])
def test_other_precisions(dtype: torch.dtype, mode: str, activation: str | None) -> None:
    layer = linear(7, 90, mode=mode, activation=activation).to(dtype)
    packed = PackedBitLinear.from_layer(layer)
    x = torch.randn(11, 90, dtype=dtype)
    assert packed(x).dtype == dtype
    assert distance(packed(x), layer(x)) < (1e-13 if dtype == torch.float64 else 2e-2)
    with pytest.raises(TypeError, match=r"input is torch\.float32, this layer"):
        packed(x.float())


def test_packing_changes_neither_the_layer_nor_its_quantizers_state() -> None:
    layer = linear(7, 90, mode="chimera").train()
    layer(torch.randn(2, 90))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    packed = PackedBitLinear.from_layer(layer)
    assert layer.training and layer.quantizer.training and not packed.training
    torch.testing.assert_close(dict(layer.state_dict()), before, rtol=0, atol=0, equal_nan=True)
    x = torch.randn(4, 90)
    assert distance(packed(x), copy.deepcopy(layer).eval()(x)) < 1e-5  # as in eval mode, though it is training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("mode", ["chimera", "ttq"])
def test_an_input_that_is_not_finite_gives_nan_as_in_the_fake_quantised_layer(value: float, mode: str) -> None:
    layer = linear(7, 90, mode=mode)
    x = torch.randn(4, 90)
    x[1, 2] = value
    assert layer(x).isnan().all()
    assert PackedBitLinear.from_layer(layer)(x).isnan().all()


def test_results_carry_no_gradient() -> None:
    packed = PackedBitLinear.from_layer(linear(7, 9, activation=None))
    assert not packed(torch.randn(2, 9, requires_grad=True)).requires_grad


def test_bad_input_is_refused() -> None:
    packed = PackedBitLinear.from_layer(linear(7, 9))
    with pytest.raises(ValueError, match=r"input of shape \(2, 8\): expected \(\.\.\., 9\)"):
        packed(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 9\)"):
        packed(torch.zeros(()))
    with pytest.raises(CannotPack, match="a Linear is no BitLinear: convert it first"):
        PackedBitLinear.from_layer(nn.Linear(3, 3))
    with pytest.raises(CannotPack, match="a BitLinear is no BitConv2d"):
        PackedBitConv2d.from_layer(linear(3, 3))
    with pytest.raises(UnknownName, match="unknown codec '3bit'"):
        PackedBitLinear.from_layer(linear(3, 3), codec="3bit")
    broken = linear(3, 3)
    with torch.no_grad():
        broken.weight[0, 0] = float("nan")
    broken.train()(torch.zeros(1, 3))
    with pytest.raises(CannotPack, match=r"layer '0': the scales of this BitLinear are not finite"):
        pack(nn.Sequential(broken))
    with pytest.raises(NothingToPack, match="Sequential has no ternary layer"):
        pack(nn.Sequential(nn.Linear(3, 3)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("codec", CODECS)
def test_a_whole_resnet_predicts_the_same(mode: str, codec: str) -> None:
    torch.manual_seed(0)
    model = ChimeraResNet20(mode, first_last_fp32=False)
    model(torch.randn(8, 3, 32, 32))
    packed = pack(model, codec=codec)
    assert model.training and not packed.training
    assert not any(parameter.requires_grad for parameter in packed.parameters())
    x = torch.randn(4, 3, 32, 32)
    assert distance(packed(x), model.eval()(x)) < 1e-5


def test_a_layer_in_two_places_is_packed_once_and_hooks_stay() -> None:
    shared = linear(6, 6)
    calls: list[int] = []
    shared.register_forward_hook(lambda *_: calls.append(1))
    packed = pack(nn.Sequential(shared, nn.ReLU(), shared))
    assert packed[0] is packed[2] and isinstance(packed[0], PackedBitLinear)
    packed(torch.randn(2, 6))
    assert calls == [1, 1]


class Doubled(nn.Linear):
    """A subclass with a forward of its own, as networks from elsewhere have."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return super().forward(input * 2)


def test_layers_of_a_subclass_keep_what_its_forward_adds() -> None:
    model = convert(nn.Sequential(Doubled(6, 5))).eval()
    packed = pack(model)
    assert isinstance(packed[0], Doubled) and isinstance(packed[0], PackedBitLinear)
    x = torch.randn(3, 6)
    torch.testing.assert_close(packed(x), model(x))
    torch.testing.assert_close(copy.deepcopy(packed)(x), model(x))


def test_torchs_transformer_layer_goes_through_the_packed_ones() -> None:
    torch.manual_seed(0)
    inner = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = convert(inner, skip=["out_proj"]).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        assert distance(pack(model)(x), model(x)) < 1e-5
