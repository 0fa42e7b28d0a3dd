"""Diagnostics against numbers worked out by hand, and the count of bytes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from chimera_lib.ternary.optimizers import Chimera21


def test_nothing_is_measured_unless_asked_for() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = Chimera21([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    assert optimizer.last_diagnostics is None


def test_one_step_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0, 5.0, 6.0]))
    optimizer = Chimera21([weight], lr=0.1, rho_psi=0.5, lambda_gate=0.2, eps=1e-12, diagnostics=True)
    weight.grad = torch.tensor([1.0, -2.0, 0.0, 4.0])
    optimizer.step()
    seen = optimizer.last_diagnostics
    assert seen is not None
    kappa = [math.exp(0.1), math.exp(0.1), 1.0, math.exp(0.1)]  # ψ is half of the agreement
    mean = sum(kappa) / 4
    assert seen.kappa_mean == pytest.approx(mean)
    assert seen.kappa_std == pytest.approx(math.sqrt(sum((k - mean) ** 2 for k in kappa) / 4), rel=1e-5)
    assert (seen.kappa_min, seen.kappa_max) == pytest.approx((1.0, math.exp(0.1)))
    assert seen.noise_ratio_mean == pytest.approx(0.75, rel=1e-5)  # √v̂ = |m̂| at the first step, and 0/ε = 0
    active = [0.1 * math.exp(0.1) / abs(g) for g in (1, 2, 4)]
    assert seen.active_effective_lr_mean == pytest.approx(sum(active) / 3, rel=1e-5)
    assert seen.effective_lr_mean == pytest.approx((sum(active) + 0.1 / 1e-12) / 4, rel=1e-5)
    assert seen.update_norm == pytest.approx(0.1 * math.exp(0.1) * math.sqrt(3), rel=1e-5)
    assert seen.update_parameter_ratio == pytest.approx(seen.update_norm / weight.norm().item(), rel=1e-5)
    assert seen.update_mean_abs == pytest.approx(0.1 * math.exp(0.1) * 0.75, rel=1e-5)
    assert seen.update_max_abs == pytest.approx(0.1 * math.exp(0.1), rel=1e-5)
    assert (seen.zero_gradient_ratio, seen.active_ratio, seen.elements) == (0.25, 0.75, 4)
    assert seen.psi_mean_abs == pytest.approx(0.375) and seen.psi_saturation == 0
    assert seen.collision_score == pytest.approx(0.1 * 0.75, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"neutral": "floor"}, {"neutral": "mean"}, {"cross_gate": "noise_ratio"}, {"psi_storage": "int8"}],
    ids=str,
)
def test_the_update_it_reports_is_the_one_that_was_taken(options: dict[str, Any]) -> None:
    made = [torch.nn.Parameter(torch.zeros(40)), torch.nn.Parameter(torch.zeros(5))]
    optimizer = Chimera21(made, lr=0.1, diagnostics=True, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(7):
        before = torch.cat([p.detach().clone() for p in made])
        for p in made:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
        seen = optimizer.last_diagnostics
        assert seen is not None
        moved = torch.cat([p.detach() for p in made]) - before
        assert seen.update_norm == pytest.approx(moved.norm().item(), rel=1e-4)
        assert seen.update_max_abs == pytest.approx(moved.abs().max().item(), rel=1e-4)


def test_saturation_counts_full_agreement() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = Chimera21([weight], rho_psi=0.1, diagnostics=True)
    for _ in range(9):
        weight.grad = torch.tensor([1.0, 1.0, 1.0, 0.0])
        optimizer.step()
    seen = optimizer.last_diagnostics
    assert seen is not None and seen.psi_saturation == 0.75


@pytest.mark.parametrize(("storage", "psi"), [("fp32", 400), ("int8", 100)])
def test_bytes_of_the_state(storage: str, psi: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(100))
    optimizer = Chimera21([weight], psi_storage=storage)
    weight.grad = torch.ones(100)
    optimizer.step()
    assert optimizer.state_bytes() == {"m": 400, "v": 400, "psi": psi, "other": 4, "total": 804 + psi}
