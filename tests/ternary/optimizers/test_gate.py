"""The gate against its closed forms: agreement, policies, κ, the cross gate, and what noise makes of them."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera_lib.ternary.optimizers import Chimera21, gate

floats = st.floats(-3, 3, width=32)


def test_agreement_is_the_product_of_the_signs_even_where_the_product_underflows() -> None:
    m = torch.tensor([1.0, -2.0, 3.0, 0.0, 1e-30, -1e-38])
    g = torch.tensor([2.0, 3.0, 0.0, 1.0, 1e-30, 1e-38])
    assert (m * g)[4] == 0
    assert gate.agreement(m, g).tolist() == [1, -1, 0, 0, 1, -1]


@settings(deadline=None)
@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=20), st.floats(0, 1))
def test_psi_stays_between_minus_one_and_one(pairs: list[tuple[float, float]], rho: float) -> None:
    psi = torch.zeros(())
    for m, g in pairs:
        momentum, grad = torch.tensor(m), torch.tensor(g)
        gate.average(psi, gate.agreement(momentum, grad), grad, momentum, 1 - rho, "standard", 0.9)
        assert abs(float(psi)) <= 1 + 1e-6


@pytest.mark.parametrize(("policy", "after"), [("standard", 0.25), ("freeze", 0.5), ("decay", 0.1), ("inertia", 0.75)])
def test_zero_gradient_policies(policy: str, after: float) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = Chimera21([weight], rho_psi=0.5, zero_gradient=policy, idle_decay=0.2)
    for slope in (1.0, 0.0):
        weight.grad = torch.tensor([slope])
        optimizer.step()
    assert optimizer.state[weight]["psi"].item() == pytest.approx(after, abs=1e-7)


@pytest.mark.parametrize("policy", ["freeze", "decay", "inertia"])
def test_policies_act_on_psi_only_and_only_where_the_gradient_is_zero(policy: str) -> None:
    results = {}
    for name in ("standard", policy):
        weight = torch.nn.Parameter(torch.ones(4))
        optimizer = Chimera21([weight], zero_gradient=name, idle_decay=0.5)
        for slope in ([1.0, 1.0, -1.0, 1.0], [1.0, 0.0, 1.0, -1.0]):
            weight.grad = torch.tensor(slope)
            optimizer.step()
        results[name] = optimizer.state[weight]
    one, other = results.values()
    assert torch.equal(one["exp_avg"], other["exp_avg"]) and torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])
    assert (one["psi"] == other["psi"]).tolist() == [True, False, True, True]


def test_kappa_is_the_exponential_between_its_bounds() -> None:
    psi = torch.tensor([-1.0, 0.0, 0.3, 1.0])
    assert gate.gate(psi, 2.0, 0.5, 2.0).tolist() == pytest.approx([0.5, 1.0, math.exp(0.6), 2.0])
    assert gate.gate(psi, 2.0, 0.5, 2.0, clip=False).tolist() == pytest.approx([math.exp(2 * p) for p in psi.tolist()])
    assert gate.gate(psi, 0.1, 0.5, 2.0, floor=0.3)[2].item() == 1.0


def test_the_optimizer_clips_where_the_bounds_can_bind() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = Chimera21([weight], lr=1.0, rho_psi=0.0, lambda_gate=3.0, kappa=(0.5, 2.0), eps=0.0)
    weight.grad = torch.tensor([1.0, -1.0])
    optimizer.step()  # a = 1 and m̂/√v̂ = ±1: the step is κ, cut from e³ to 2
    assert weight.tolist() == pytest.approx([-2.0, 2.0])


def test_cross_gate_closes_with_the_noise_ratio() -> None:
    root, m = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 0.5, 0.01])
    ratio = gate.noise_ratio(root, m, 1.0, 0.0)
    assert ratio.tolist() == pytest.approx([1, 2, 100])
    kappa = gate.cross(torch.full((3,), 1.5), ratio, 2.0, 4.0)
    assert kappa.tolist() == pytest.approx([1 + 0.5 / (1 + math.exp(-4)), 1.25, 1.0])


def simulate(beta1: float, steps: int, agreement: str) -> np.ndarray:
    """Mean agreement at each step over many independent coordinates that see nothing but noise."""
    generator, momentum, means = np.random.default_rng(0), np.zeros(40_000), []
    for _ in range(steps):
        noise = generator.standard_normal(momentum.size)
        before = momentum
        momentum = beta1 * momentum + (1 - beta1) * noise
        means.append(np.mean(np.sign(momentum if agreement == "current" else before) * np.sign(noise)))
    return np.array(means)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95])
def test_noise_floor_is_what_noise_gives_at_every_step(beta1: float) -> None:
    means = simulate(beta1, 60, "current")
    expected = [gate.noise_floor(beta1, step) for step in range(1, 61)]
    assert np.abs(means - expected).max() < 0.025  # five standard errors of a mean over 40,000
    assert means[30:].mean() == pytest.approx(gate.noise_floor(beta1), abs=0.005)
    assert abs(simulate(beta1, 60, "previous")[1:].mean()) < 0.005 and gate.noise_floor(0.9, agreement="previous") == 0


def test_noise_floor_of_the_defaults_is_the_number_of_the_book() -> None:
    assert gate.noise_floor(0.9) == pytest.approx(2 / math.pi * math.asin(math.sqrt(1 - 0.81)))
    assert gate.noise_floor(0.9) == pytest.approx(0.287, abs=5e-4)
    assert gate.expected_kappa(0.1, 0.9) == pytest.approx(1.029, abs=5e-4)
    assert doctest.testmod(gate).failed == 0


def noisy(**options: object) -> Chimera21:
    """An optimizer after 300 steps of noise on 20,000 coordinates."""
    weight = torch.nn.Parameter(torch.zeros(20_000))
    optimizer = Chimera21([weight], diagnostics=True, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        weight.grad = torch.randn(20_000, generator=generator)
        optimizer.step()
    return optimizer


def test_the_published_gate_raises_the_learning_rate_on_noise() -> None:
    seen = noisy().last_diagnostics
    assert seen is not None
    assert seen.kappa_mean == pytest.approx(gate.expected_kappa(0.1, 0.9), abs=1e-3)


@pytest.mark.parametrize("options", [{"agreement": "previous"}, {"neutral": "floor"}, {"neutral": "mean"}], ids=str)
def test_the_unbiased_gates_do_not(options: dict[str, object]) -> None:
    seen = noisy(**options).last_diagnostics
    assert seen is not None
    assert seen.kappa_mean == pytest.approx(1.0, abs=1e-3)
    assert seen.kappa_std > 0.005  # it is still a gate


def test_the_floor_follows_psi_from_the_first_step() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = Chimera21([weight], lr=1.0, neutral=True, rho_psi=0.5, eps=0.0)
    weight.grad = torch.tensor([1.0, -2.0, 3.0])
    optimizer.step()  # at t = 1 every agreement is 1, whatever the gradient: κ is exactly 1
    assert weight.tolist() == pytest.approx([-1.0, 1.0, -1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [({"beta1": 1.0}, "beta1=1.0"), ({"beta1": 0.9, "step": 0}, "step=0"), ({"beta1": 0.9, "agreement": "x"}, "'x'")],
)
def test_bad_input_of_the_floor_is_refused(words: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gate.noise_floor(**words)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(st.floats(-gate.GENTLE, gate.GENTLE), min_size=1, max_size=20))
def test_the_series_of_the_compiled_step_is_the_exponential(exponents: list[float]) -> None:
    x = torch.tensor(exponents, dtype=torch.float64)
    assert (gate.gate_fused(x, 1.0, None) / x.exp() - 1).abs().max() < 2e-8
    assert torch.equal(gate.gate_fused(x, 0.1, 0.2), gate.gate_fused(x - 0.2, 0.1, None))


def test_the_agreement_of_the_compiled_step_is_the_agreement() -> None:
    values = torch.tensor([-3e38, -1.0, -1.2e-38, 0.0, 1.2e-38, 1e-30, 7.0, 3e38])
    m, g = torch.meshgrid(values, values, indexing="ij")
    assert torch.equal(gate.agreement_fused(m, g), gate.agreement(m, g))
