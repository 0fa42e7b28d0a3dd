"""``chimera`` and ``strict_bitnet`` against the formulas written out once more, in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from chimera_lib.ternary import quantizers
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.floats(0, 2), st.floats(1e-3, 1e3))
def test_threshold_is_alpha_gamma(seed: int, alpha: float, size: float) -> None:
    weight = (normal(5, 9, seed=seed) * size).double()
    quantizer = quantizers.build("chimera", weight, alpha_override=alpha).eval()
    gamma = weight.abs().mean()
    expected = weight.sign() * (weight.abs() > quantizer.alpha_used * gamma)
    near = (weight.abs() / gamma - alpha).abs() < 1e-6
    trits = quantizer.trits(weight)
    assert ((trits.codes == expected) | near).all()
    torch.testing.assert_close(trits.plus, gamma, rtol=1e-6, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999))
def test_bitnet_rounds_and_is_chimera_at_one_half(seed: int) -> None:
    weight = normal(6, 7, seed=seed)
    codes = quantizers.build("strict_bitnet", weight).eval().trits(weight).codes
    assert torch.equal(codes.float(), (weight / weight.abs().mean()).round().clamp(-1, 1))
    half = quantizers.build("chimera", weight, alpha_override=0.5).eval().trits(weight).codes
    assert torch.equal(codes, half)


def test_gamma_is_an_ema_that_starts_at_the_mean() -> None:
    weights = [normal(8, 8, seed=seed) * (1 + seed) for seed in range(6)]
    quantizer = quantizers.build("chimera", weights[0], rho_s=0.9)
    expected = 0.0
    for step, weight in enumerate(weights):
        mean = float(weight.double().abs().mean())
        expected = mean if step == 0 else 0.9 * expected + 0.1 * mean
        quantizer(weight)
        assert float(quantizer.gamma(weight)) == pytest.approx(expected, rel=1e-6)
        assert float(quantizer.trits(weight).plus) == pytest.approx(expected, rel=1e-6), (
            "the scale is gamma as published"
        )


def test_gamma_is_at_least_one_millionth() -> None:
    tiny = torch.full((3, 3), 1e-9)
    quantizer = quantizers.build("chimera", tiny, alpha_override=0.7)
    quantizer(tiny)
    assert float(quantizer.gamma(tiny)) == pytest.approx(1e-6)
    assert not quantizer.eval().trits(tiny).codes[0, 0], "below alpha gamma"


@pytest.mark.parametrize("warmup", [2, 3, 100])
def test_warm_up_goes_from_alpha_min_to_alpha_target(warmup: int) -> None:
    weight = normal(4, 4)
    quantizer = ThresholdQuantizer(weight, alpha_min=0.1, alpha_target=0.7, warmup=warmup)
    used = []
    for _ in range(warmup + 5):
        quantizer(weight)
        used.append(quantizer.alpha_used)
    expected = [0.1 + min(step / (warmup - 1), 1) * 0.6 for step in range(warmup + 5)]
    assert used == pytest.approx(expected, abs=2e-7)
    assert used[0] == 0.1 and used[warmup - 1] == 0.7 == used[-1], "the ends are exact"
    assert used[warmup - 2] < 0.7


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_warm_up_the_target_holds_at_once(warmup: int) -> None:
    quantizer = ThresholdQuantizer(normal(4, 4), warmup=warmup)
    quantizer(normal(4, 4))
    assert quantizer.alpha_used == 0.7


def test_first_forward_drops_nothing_and_eval_uses_the_last_alpha() -> None:
    weight = normal(30, 30)
    quantizer = ThresholdQuantizer(weight, warmup=3)
    assert quantizer.eval().trits(weight).codes.count_nonzero() == 900
    quantizer.train()
    for alpha in (0.0, 0.35, 0.7):
        codes = quantizer(weight).detach().sign()
        assert quantizer.alpha_used == pytest.approx(alpha)
        assert torch.equal(quantizer.eval()(weight).detach().sign(), codes)
        quantizer.train()


def test_target_and_override_may_be_set() -> None:
    weight = normal(30, 30)
    quantizer = ThresholdQuantizer(weight, warmup=0)
    quantizer.alpha_target = 0.9
    assert (quantizer.alpha_target, quantizer.alpha_override, quantizer.alpha_used) == (0.9, None, 0.9)
    quantizer.alpha_override = 1.1
    assert (quantizer.alpha_target, quantizer.alpha_override, quantizer.alpha_used) == (0.9, 1.1, 1.1)
    other = ThresholdQuantizer(weight, warmup=0)
    other.load_state_dict(quantizer.state_dict())
    assert (other.alpha_target, other.alpha_override) == (0.9, 1.1), "they are state"
    quantizer.alpha_override = None
    assert quantizer.alpha_used == 0.9


def test_optimal_scale_is_least_squares_and_better_as_the_closed_form_says() -> None:
    """For a Gaussian, alpha = .7: relative errors 1 - 2 gamma b + gamma^2 p = .278 and 1 - b^2 / p = .192."""
    gamma = math.sqrt(2 / math.pi)
    cut = 0.7 * gamma
    p = 2 * stats.norm.sf(cut)
    b = 2 * integrate.quad(lambda x: x * stats.norm.pdf(x), cut, math.inf)[0]
    published, optimal = 1 - 2 * gamma * b + gamma**2 * p, 1 - b**2 / p
    assert (round(published, 3), round(optimal, 3)) == (0.278, 0.192)
    weight = normal(1000, 1000)
    for scale, expected in (("gamma", published), ("optimal", optimal)):
        quantizer = quantizers.build("chimera", weight, alpha_override=0.7, scale=scale).eval()
        error = (weight - quantizer(weight)).square().mean() / weight.square().mean()
        assert float(error) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("mode", ["chimera", "strict_bitnet"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_no_other_scale_is_nearer(mode: str, per_channel: bool) -> None:
    weight = normal(4, 50) * torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    options = {"alpha_override": 0.7} if mode == "chimera" else {}
    codes, scale, _ = (
        quantizers.build(mode, weight, scale="optimal", per_channel=per_channel, **options).eval().trits(weight)
    )
    if per_channel:
        expected = [
            float(torch.linalg.lstsq(c[:, None], w[:, None]).solution)
            for c, w in zip(codes.float(), weight, strict=True)
        ]
    else:
        expected = [float(torch.linalg.lstsq(codes.float().reshape(-1, 1), weight.reshape(-1, 1)).solution)]
    assert scale.flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mode", list(quantizers.QUANTIZERS))
def test_channels_are_quantized_each_by_itself(mode: str) -> None:
    weight = normal(3, 4, 3, 3) * torch.tensor([1.0, 5.0, 25.0]).view(3, 1, 1, 1)
    together = quantizers.build(mode, weight, per_channel=True).eval().trits(weight)
    for channel in range(3):
        row = weight[channel : channel + 1]
        alone = quantizers.build(mode, row).eval().trits(row)
        assert torch.equal(together.codes[channel], alone.codes[0])
        torch.testing.assert_close(together.plus[channel].squeeze(), alone.plus)


def test_one_shot_gradient_is_straight_through() -> None:
    weight = normal(5, 5).requires_grad_()
    upstream = normal(5, 5, seed=1)
    for mode in ("chimera", "strict_bitnet"):
        for scale in ("gamma", "optimal"):
            weight.grad = None
            (quantizers.build(mode, weight, scale=scale)(weight) * upstream).sum().backward()
            assert torch.equal(weight.grad, upstream)


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_bad_alpha(alpha: float) -> None:
    weight = normal(3, 3)
    for name in ("alpha_target", "alpha_min", "alpha_override"):
        with pytest.raises(ValueError, match=rf"{name}={alpha}: expected a finite threshold >= 0"):
            ThresholdQuantizer(weight, **{name: alpha})
    quantizer = ThresholdQuantizer(weight)
    with pytest.raises(ValueError, match="None takes an override away"):
        quantizer.alpha_override = alpha
    with pytest.raises(ValueError, match="alpha_target"):
        quantizer.alpha_target = alpha
    assert quantizer.alpha_target == 0.7


@pytest.mark.parametrize("warmup", [-1, 2.5, True])
def test_bad_warm_up(warmup: object) -> None:
    with pytest.raises(ValueError, match=rf"warmup={warmup!r}: expected a number of training forwards"):
        ThresholdQuantizer(normal(3, 3), warmup=warmup)  # type: ignore[arg-type]
