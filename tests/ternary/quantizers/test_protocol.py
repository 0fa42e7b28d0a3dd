"""What every quantizer promises: eval forwards equal trits, state moves in training only and resumes exactly."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from chimera_lib.errors import UnknownName
from chimera_lib.ternary import quantizers
from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.quantizers.protocol import Ternary, straight_through

if TYPE_CHECKING:
    from chimera_lib.ternary.quantizers.protocol import Quantizer

MODES = tuple(quantizers.QUANTIZERS)
KINDS = [(mode, per_channel) for mode in MODES for per_channel in (False, True)]
OPTIMAL = [("chimera", {"scale": "optimal"}), ("strict_bitnet", {"scale": "optimal", "per_channel": True})]
EVERY = [(mode, {"per_channel": per_channel}) for mode, per_channel in KINDS] + OPTIMAL


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def trained(mode: str, weight: torch.Tensor, forwards: int = 5, **options: object) -> Quantizer:
    quantizer = quantizers.build(mode, weight, **options)
    for step in range(forwards):
        quantizer(weight * (1 + step / 7))
    return quantizer


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a.view(torch.uint8) == b.view(torch.uint8)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("mode", "options"), EVERY)
def test_forward_in_eval_is_trits_bit_for_bit(mode: str, options: dict, dtype: torch.dtype) -> None:
    weight = normal(6, 4, 3, 3, dtype=dtype)
    quantizer = trained(mode, weight, **options).eval()
    trits = quantizer.trits(weight)
    assert same_bits(quantizer(weight).detach(), trits.values())
    assert trits.codes.dtype == torch.int8
    assert set(trits.codes.flatten().tolist()) == {-1, 0, 1}
    assert trits.plus.shape == trits.minus.shape == ((6, 1, 1, 1) if options.get("per_channel") else ())


@pytest.mark.parametrize(("mode", "options"), EVERY)
def test_forward_in_training_is_trits_afterwards(mode: str, options: dict) -> None:
    weight = normal(6, 20)
    quantizer = quantizers.build(mode, weight, **options)
    for _ in range(3):
        value = quantizer(weight).detach()
        assert torch.equal(value, quantizer.trits(weight).values())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODES), st.integers(1, 7), st.integers(1, 40), st.integers(0, 99), st.floats(1e-4, 1e4))
def test_properties_hold_for_any_shape_and_size(mode: str, rows: int, columns: int, seed: int, size: float) -> None:
    weight = normal(rows, columns, seed=seed) * size
    quantizer = trained(mode, weight).eval()
    codes, plus, minus = quantizer.trits(weight)
    assert ((codes == 0) | (codes == weight.sign())).all(), "a code never has the other sign"
    assert plus > 0 and minus > 0
    assert torch.equal(quantizer.trits(-weight).codes, -codes)
    kept, dropped = weight[codes != 0].abs(), weight[codes == 0].abs()
    if len(kept) and len(dropped):
        assert kept.min() >= dropped.max(), "no weight is dropped that is larger than a kept one"


@pytest.mark.parametrize(("mode", "options"), EVERY)
def test_eval_forward_changes_no_state(mode: str, options: dict) -> None:
    weight = normal(6, 4)
    for quantizer in (quantizers.build(mode, weight, **options), trained(mode, weight, **options)):
        quantizer.eval()
        before = copy.deepcopy(quantizer.state_dict())
        for scale in (1.0, 3.0):
            quantizer(weight * scale)
            quantizer.trits(weight * scale)
        after = quantizer.state_dict()
        assert all(same_bits(before[name].reshape(-1, 1), after[name].reshape(-1, 1)) for name in before)


@pytest.mark.parametrize(("mode", "options"), EVERY)
def test_resuming_from_a_file_is_exact(mode: str, options: dict) -> None:
    weight = normal(6, 4)
    straight = (
        trained(mode, weight, 7, warmup=6, **options) if mode == "chimera" else trained(mode, weight, 7, **options)
    )
    extra = {"warmup": 6} if mode == "chimera" else {}
    first = trained(mode, weight, 3, **extra, **options)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = quantizers.build(mode, normal(6, 4, seed=9), **extra, **options)
    second.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 7):
        value = second(weight * (1 + step / 7))
    assert all(
        torch.equal(a, b) for a, b in zip(straight.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(value, straight.trits(weight * (1 + 6 / 7)).values())


@pytest.mark.parametrize("mode", MODES)
def test_state_survives_copies_and_keeps_its_precision(mode: str) -> None:
    weight = normal(6, 4)
    quantizer = trained(mode, weight)
    twin = copy.deepcopy(quantizer)
    quantizer(weight * 9)
    moved = mode in ("chimera", "strict_bitnet")
    assert (twin.state_dict().keys() == quantizer.state_dict().keys()) and moved == any(
        not torch.equal(a, b) for a, b in zip(twin.buffers(), quantizer.buffers(), strict=True)
    )
    before = [buffer.clone() for buffer in quantizer.buffers()]
    quantizer.to(torch.bfloat16)
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(quantizer.buffers(), before, strict=True))
    quantizer.to("meta")
    assert all(buffer.device.type == "meta" for buffer in quantizer.buffers())


def test_ema_follows_in_bfloat16_where_its_own_would_stand_still() -> None:
    weight = normal(64, 64, dtype=torch.bfloat16)
    quantizer = quantizers.build("chimera", weight).to(torch.bfloat16)
    quantizer(weight)
    start = float(quantizer.gamma(weight))
    for _ in range(400):
        quantizer(weight * 1.03)
    mean = float((weight * 1.03).float().abs().mean())
    assert start < 0.99 * mean
    assert float(quantizer.gamma(weight)) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_checkpointing_counts_once_and_gives_the_same_gradient(mode: str, reentrant: bool) -> None:
    torch.manual_seed(0)
    first = nn.Sequential(BitLinear(5, 8, mode=mode), nn.Tanh(), BitLinear(8, 3, mode=mode))
    second = copy.deepcopy(first)
    x = normal(7, 5)
    for _ in range(4):
        first.zero_grad()
        second.zero_grad()
        first(x).square().sum().backward()
        checkpoint(second, x.clone().requires_grad_(), use_reentrant=reentrant).square().sum().backward()
        for a, b in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad)
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_straight_through_gives_the_value_and_the_identitys_gradient() -> None:
    x = normal(4, 5).requires_grad_()
    weights = normal(4, 5, seed=1)
    y = straight_through(x, lambda buffer: buffer.round_())
    assert torch.equal(y, x.detach().round())
    (y * weights).sum().backward()
    assert torch.equal(x.grad, weights)
    assert not torch.equal(x.detach(), x.detach().round()), "the source is left alone"


def test_straight_through_works_under_transforms() -> None:
    x = normal(4, 5)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (straight_through(v, lambda buffer: buffer.round_()) ** 2).sum()

    assert torch.equal(torch.func.grad(loss)(x), 2 * x.round())
    assert torch.equal(torch.func.vmap(torch.func.grad(loss))(x), 2 * x.round())


@pytest.mark.parametrize("mode", MODES)
def test_transforms_see_the_layers_gradient(mode: str) -> None:
    layer = BitLinear(5, 3, mode=mode).eval()
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    x = normal(7, 5)

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(layer, values, (x,)).square().sum()

    gradients = torch.func.grad(loss)(parameters)
    loss(dict(layer.named_parameters())).backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch.compile does so itself
@pytest.mark.parametrize("mode", MODES)
def test_compiles_without_graph_breaks(mode: str) -> None:
    torch.manual_seed(0)
    eager = BitLinear(5, 3, mode=mode)
    compiled = copy.deepcopy(eager)
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    x = normal(7, 5)
    for _ in range(3):
        eager.zero_grad()
        compiled.zero_grad()
        a, b = eager(x), run(x)
        torch.testing.assert_close(a, b)
        a.square().sum().backward()
        b.square().sum().backward()
        for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    for p, q in zip(eager.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(p, q, equal_nan=True)


def test_values_of_codes() -> None:
    codes = torch.tensor([[1, 0], [-1, 1]], dtype=torch.int8)
    assert Ternary(codes, torch.tensor(2.0), torch.tensor(3.0)).values().tolist() == [[2, 0], [-3, 2]]
    scale = torch.tensor([[2.0], [5.0]])
    assert Ternary(codes, scale, scale).values().tolist() == [[2, 0], [-5, 5]]


@pytest.mark.parametrize("mode", MODES)
def test_weights_of_zeros_and_of_nan(mode: str) -> None:
    quantizer = quantizers.build(mode, torch.zeros(3, 4))
    assert torch.equal(quantizer(torch.zeros(3, 4)), torch.zeros(3, 4))
    assert quantizer(torch.full((3, 4), torch.nan)).isnan().all(), "a broken weight must not look like zeros"


def test_bad_input() -> None:
    weight = normal(3, 4)
    with pytest.raises(UnknownName, match=r"quantizer mode 'chimaera' \(did you mean 'chimera'.*strict_bitnet"):
        quantizers.build("chimaera", weight)
    with pytest.raises(UnknownName, match="fp32_baseline is a network that was not converted"):
        quantizers.build("fp32_baseline", weight)
    with pytest.raises(TypeError, match=r"mode 'lsq' has no option 'alpha_target'; see .*LsqQuantizer"):
        quantizers.build("lsq", weight, alpha_target=0.7)
    with pytest.raises(ValueError, match=r"rho_s=1: expected 0 <= rho_s < 1"):
        quantizers.build("chimera", weight, rho_s=1)
    with pytest.raises(ValueError, match="scale='best': expected 'gamma'"):
        quantizers.build("strict_bitnet", weight, scale="best")
    with pytest.raises(ValueError, match=r"per_channel with a weight of shape \(4,\)"):
        quantizers.build("lsq", weight[0], per_channel=True)
    with pytest.raises(ValueError, match=r"threshold=1\.0: expected a share"):
        quantizers.build("ttq", weight, threshold=1.0)
