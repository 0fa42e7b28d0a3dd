"""The sources' boundary search: Adam on a tanh parameterisation until the top two classes are equally likely.

As published, the 8-bit rounding inside the loss has a gradient of exactly zero, so the image never moves.
With a straight-through estimator (Bengio et al. 2013: the backward pass treats rounding as the identity)
the same loss does reach the boundary.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from chimera_lib.images.search.protocol import (
    GRADIENT_COST,
    Asks,
    Budget,
    BudgetSpent,
    Outcome,
    Probe,
    as_input,
    ask_until_spent,
)

if TYPE_CHECKING:
    from torch import nn

LEARNING_RATE = 0.015
STEPS = 1500
GAP_WEIGHT = 0.8  # the remaining 0.2 weighs the cross-entropy
INSIDE = 1e-6  # pixels are kept this far inside (0, 1): atanh is infinite at its ends


def as_published(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """The published search, zero gradient and all: its one candidate is the image it ends on."""
    del seed  # nothing is drawn
    probe = Probe(model, oracle, budget)
    visited = walk(probe, image, straight_through=False)
    gap, _, end = visited[-1]
    ask_until_spent(probe, [end], np.array([gap]))
    return probe.outcome


def straight_through(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """The same loss and optimizer with a straight-through estimator; the candidates are the best points visited."""
    del seed
    probe = Probe(model, oracle, budget)
    best = heapq.nsmallest(budget.oracle_calls, walk(probe, image, straight_through=True))
    ask_until_spent(probe, [point for _, _, point in best], np.array([gap for gap, _, _ in best]))
    return probe.outcome


def walk(probe: Probe, image: np.ndarray, straight_through: bool) -> list[tuple[float, int, np.ndarray]]:
    """Up to ``STEPS`` steps from ``image``; the (logit gap, step, uint8 image) of each 8-bit point visited.

    Ends early where the budget does, or where the parameters did not move by a bit: Adam's moments
    are then still zero, and each further step would repeat this one.
    """
    x = as_input(image[None]).clamp(INSIDE, 1 - INSIDE)
    w = torch.atanh(2 * x - 1).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=LEARNING_RATE)
    target: torch.Tensor | None = None
    visited: list[tuple[float, int, np.ndarray]] = []
    for step in range(STEPS):
        try:
            probe.spend(GRADIENT_COST)
        except BudgetSpent:
            break
        x = 0.5 * (torch.tanh(w) + 1)
        levels = torch.round(x * 255)
        quantized = levels / 255
        if straight_through:
            quantized = x + (quantized - x).detach()
        logits = probe.model(quantized)
        if target is None:
            target = logits[0].topk(2).indices[1:]  # the runner-up at the start
        top = F.softmax(logits, dim=1).topk(2, dim=1).values[0]
        loss = GAP_WEIGHT * (top[0] - top[1]).abs() + (1 - GAP_WEIGHT) * F.cross_entropy(logits, target)
        two = logits.detach().double().topk(2, dim=1).values[0]
        point = levels.detach()[0].permute(1, 2, 0).to(torch.uint8).numpy()
        visited.append((float(two[0] - two[1]), step, point))
        probe.visit(point, visited[-1][0])
        before = w.detach().clone()
        optimizer.zero_grad()
        loss.backward(inputs=[w])
        optimizer.step()
        if torch.equal(before, w.detach()):
            break
    return visited
