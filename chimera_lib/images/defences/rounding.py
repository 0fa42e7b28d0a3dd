"""Round the logits, the lowest class winning ties: the boundary does not go away, it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.defences.defence import Answer, Defence, Defended
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import BudgetSpent, Outcome, Probe, top_two

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.images.search.protocol import Budget

DECIMALS = 3
STEP = 10.0**-DECIMALS


class Rounding(Defence):
    """Rounds every logit to DECIMALS decimals.

    Of two classes the higher-numbered wins only where its rounded logit is the larger. So the new boundary lies
    where one of the two logits is just at a half step and the other within a step of it. The attack reaches the
    neighbourhood as ever, then looks for sets of measured +-1 steps that put one logit on such a point.
    """

    name, title = "rounding", "logits rounded to three decimals"

    def answer(self, logits: np.ndarray) -> Answer:
        z = logits[0, :, 0].astype(np.float64)
        return Answer(np.round(z, DECIMALS), np.zeros(len(z), bool))

    def attack(self, model: nn.Module, image: np.ndarray, system: Defended, budget: Budget, seed: int) -> Outcome:
        probe = Probe(model, system, budget)
        rng = np.random.default_rng(seed)
        share = 1.0
        try:
            while probe.outcome.chimera is None:
                point = lattice.reach(probe, image, share, rng)
                share = lattice.AGAIN
                for _ in range(lattice.CLOSE_ROUNDS):
                    if point is None or probe.outcome.chimera is not None:
                        break
                    point = close(probe, point, image, rng)
        except BudgetSpent:
            pass
        return probe.outcome


def distance(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far (N,) the pair of logits is from a flip: ``low`` is the lower-numbered class's, ``high`` the other's.

    Two kinds of flips: ``high`` at a half step with ``low`` in the step below it, and ``low`` at one with ``high``
    in the step above it. Infinite where the other logit is in another step.
    """
    out = np.full(np.broadcast(low, high).shape, np.inf)
    for moving, other, side in ((high, low, -1), (low, high, 1)):
        half = (np.floor(moving / STEP) + 0.5) * STEP
        beside = (other - half) * side
        fits = (beside > 0.02 * STEP) & (beside < 0.98 * STEP)
        out = np.where(fits, np.minimum(out, np.abs(moving - half)), out)
    return out


def close(probe: Probe, point: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One round: measure single steps, look among all sets of four for flips, ask about the best.

    Returns the point that came closest, uint8 (H, W, 3).
    """
    z = probe.logits(point[None])[0]
    low, high = sorted(top_two(z))
    where, step = lattice.random_steps(point, start, rng)
    effects = probe.logits(lattice.apply(point, where[:, None], step[:, None]))[:, [low, high]] - z[[low, high]]
    sets = flipping_sets(effects, z[low], z[high])
    if not len(sets):
        return point
    images = lattice.apply(point, where[sets], step[sets])
    after = probe.logits(images)
    third = np.delete(after, [low, high], axis=1).max(axis=1, initial=-np.inf)
    far = np.where(after[:, [low, high]].min(1) > third, distance(after[:, low], after[:, high]), np.inf)
    order = np.argsort(far)
    probe.visit(images[order[0]], abs(after[order[0], low] - after[order[0], high]))
    for index in order[: lattice.ASKED]:
        if far[index] > lattice.NOISE:
            break
        verdict = probe.ask(images[index])
        if verdict is None or verdict.conflict[0]:
            break
    return images[order[0]]


def flipping_sets(effects: np.ndarray, low: float, high: float) -> np.ndarray:
    """Indices (<= TRIES, 4) of four steps whose effects (STEPS, 2) on the two logits bring them closest to a flip."""
    i, j = np.triu_indices(len(effects), k=1)
    pairs = effects[i] + effects[j]
    first, second = np.triu_indices(len(pairs), k=1)
    sums = pairs[first] + pairs[second]
    residual = distance(low + sums[:, 0], high + sums[:, 1])
    best = np.argsort(residual)[: 8 * lattice.TRIES]
    best = best[np.isfinite(residual[best])]
    sets = np.sort(np.stack([i[first[best]], j[first[best]], i[second[best]], j[second[best]]], axis=1), axis=1)
    sets = sets[(np.diff(sets, axis=1) > 0).all(axis=1)]
    _, unique = np.unique(sets, axis=0, return_index=True)
    return sets[np.sort(unique)][: lattice.TRIES]
