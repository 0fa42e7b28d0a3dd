"""TTQ and LSQ against their papers' equations, weight by weight in plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from chimera_lib.ternary import quantizers


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def ttq(weight: list[float], plus: float, minus: float, upstream: list[float], t: float) -> tuple:
    """Equations 6 to 9 of Zhu et al., with the sign that equation 7 leaves out."""
    delta = t * max(abs(w) for w in weight)
    values, to_weight, to_plus, to_minus = [], [], 0.0, 0.0
    for w, g in zip(weight, upstream, strict=True):
        if w > delta:
            values.append(plus), to_weight.append(plus * g)
            to_plus += g
        elif w < -delta:
            values.append(-minus), to_weight.append(minus * g)
            to_minus -= g
        else:
            values.append(0.0), to_weight.append(g)
    return values, to_weight, to_plus, to_minus


@pytest.mark.parametrize("threshold", [0.05, 0.4])
def test_ttq_is_the_papers(threshold: float) -> None:
    weight = normal(6, 8).requires_grad_()
    upstream = normal(6, 8, seed=1)
    quantizer = quantizers.build("ttq", weight, threshold=threshold)
    with torch.no_grad():
        quantizer.plus.fill_(1.7)
        quantizer.minus.fill_(0.6)
    value = quantizer(weight)
    (value * upstream).sum().backward()
    flat = [v.detach().flatten().tolist() for v in (weight, upstream)]
    values, to_weight, to_plus, to_minus = ttq(flat[0], 1.7, 0.6, flat[1], threshold)
    assert value.flatten().tolist() == values
    assert weight.grad.flatten().tolist() == pytest.approx(to_weight, rel=1e-12)
    assert float(quantizer.plus.grad) == pytest.approx(to_plus, rel=1e-12)
    assert float(quantizer.minus.grad) == pytest.approx(to_minus, rel=1e-12)


def test_ttqs_scales_have_the_loss_own_slope() -> None:
    """The codes do not depend on the scales, so a difference quotient is their gradient, sign included."""
    weight, upstream = normal(6, 8), normal(6, 8, seed=1)
    quantizer = quantizers.build("ttq", weight)
    (quantizer(weight) * upstream).sum().backward()
    for scale in (quantizer.plus, quantizer.minus):
        losses = []
        for change in (1e-3, -2e-3):
            with torch.no_grad():
                scale.add_(change)
                losses.append(float((quantizer(weight) * upstream).sum()))
        assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(float(scale.grad), rel=1e-8)


def test_ttq_starts_at_the_means_of_both_sides() -> None:
    weight = torch.tensor([[1.0, 0.5, 0.01, -0.2, -0.4, -0.03]])
    quantizer = quantizers.build("ttq", weight)
    assert quantizer.plus.item() == pytest.approx(0.75)
    assert quantizer.minus.item() == pytest.approx(0.3)


def lsq(weight: list[float], step: float, upstream: list[float]) -> tuple:
    """Equations 1 to 3 and 5 of Esser et al. with Q_N = Q_P = 1, and the gradient's scale of section 2.2."""
    values, to_weight, to_step = [], [], 0.0
    for w, g in zip(weight, upstream, strict=True):
        r = w / step
        values.append(step * round(min(max(r, -1), 1)))
        to_weight.append(g if -1 < r < 1 else 0.0)
        to_step += g * (round(r) - r if -1 < r < 1 else math.copysign(1, r))
    return values, to_weight, to_step / math.sqrt(len(weight))


@pytest.mark.parametrize("step", [0.3, 1.6])
def test_lsq_is_the_papers(step: float) -> None:
    weight = normal(6, 8).requires_grad_()
    upstream = normal(6, 8, seed=1)
    quantizer = quantizers.build("lsq", weight)
    assert quantizer.step.item() == pytest.approx(2 * weight.abs().mean().item())
    with torch.no_grad():
        quantizer.step.fill_(step)
    value = quantizer(weight)
    (value * upstream).sum().backward()
    values, to_weight, to_step = lsq(*(weight.flatten().tolist(), step), upstream.flatten().tolist())
    assert value.flatten().tolist() == pytest.approx(values)
    assert weight.grad.flatten().tolist() == to_weight
    assert float(quantizer.step.grad) == pytest.approx(to_step, rel=1e-12)


def test_a_step_of_less_than_nothing_acts_as_the_smallest() -> None:
    weight = normal(4, 4)
    quantizer = quantizers.build("lsq", weight)
    with torch.no_grad():
        quantizer.step.fill_(-3.0)
    assert torch.equal(quantizer(weight).detach(), weight.sign() * 1e-6)


@pytest.mark.parametrize(("mode", "names"), [("ttq", ["plus", "minus"]), ("lsq", ["step"])])
def test_scales_of_channels_get_their_own_gradient(mode: str, names: list[str]) -> None:
    weight, upstream = normal(3, 8), normal(3, 8, seed=1)
    together = quantizers.build(mode, weight, per_channel=True)
    (together(weight) * upstream).sum().backward()
    for row in range(3):
        alone = quantizers.build(mode, weight[row : row + 1])
        (alone(weight[row : row + 1]) * upstream[row]).sum().backward()
        for name in names:
            ours = getattr(together, name).grad[row].squeeze()
            torch.testing.assert_close(ours, getattr(alone, name).grad)


@pytest.mark.parametrize("mode", ["ttq", "lsq"])
def test_learnt_scales_fit_a_weight(mode: str) -> None:
    """Descent on the squared error to a fixed weight brings the scales near that error's own minimum."""
    weight = normal(40, 50)
    quantizer = quantizers.build(mode, weight)
    with torch.no_grad():
        for scale in quantizer.parameters():
            scale.mul_(3)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.2 if mode == "ttq" else 40.0)
    errors = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (quantizer(weight) - weight).square().mean()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.5 * errors[0]
    codes, plus, minus = quantizer.trits(weight)
    if mode == "ttq":
        assert plus.item() == pytest.approx(float(weight[codes == 1].mean()), rel=1e-3)
        assert minus.item() == pytest.approx(-float(weight[codes == -1].mean()), rel=1e-3)
    else:
        difference = (quantizer(weight) - weight).detach().flatten().tolist()
        _, _, slope = lsq(weight.flatten().tolist(), plus.item(), difference)
        assert abs(slope) < 1e-3, "where the paper's gradient vanishes, which is not the least error"
