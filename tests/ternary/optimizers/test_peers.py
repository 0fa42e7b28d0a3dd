"""The peers against their papers' formulas, written out element by element in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.ternary.optimizers import CautiousAdamW, Grams, Lion

if TYPE_CHECKING:
    from collections.abc import Callable

LR, DECAY, STEPS = 0.01, 0.1, 12


def gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(6, 5, generator=generator) + 0.2 for _ in range(STEPS)]


def adam(update: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    theta, m, v = torch.ones(6, 5, dtype=torch.float64), 0.0, 0.0
    for t, g in enumerate((g.double() for g in gradients()), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        u = (m / (1 - 0.9**t)) / (torch.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theta = theta * (1 - LR * DECAY) - LR * update(u, m, g)
    return theta


def cautious() -> torch.Tensor:
    def masked(u: torch.Tensor, m: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        agree = (m * g > 0).double()
        return u * agree / max(agree.mean().item(), 1e-3)

    return adam(masked)


def grams() -> torch.Tensor:
    return adam(lambda u, m, g: torch.sign(g) * u.abs())


def lion() -> torch.Tensor:
    theta, m = torch.ones(6, 5, dtype=torch.float64), torch.zeros(6, 5, dtype=torch.float64)
    for g in (g.double() for g in gradients()):
        theta = theta - LR * (torch.sign(0.9 * m + 0.1 * g) + DECAY * theta)
        m = 0.99 * m + 0.01 * g
    return theta


@pytest.mark.parametrize(("kind", "expected"), [(CautiousAdamW, cautious), (Grams, grams), (Lion, lion)])
def test_a_peer_computes_its_papers_formula(kind: type, expected: Callable[[], torch.Tensor]) -> None:
    weight = torch.nn.Parameter(torch.ones(6, 5))
    optimizer = kind([weight], lr=LR, weight_decay=DECAY)
    for slope in gradients():
        weight.grad = slope
        optimizer.step()
    assert (weight.detach() - expected()).abs().max() < 1e-6
