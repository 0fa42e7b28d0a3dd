"""Noise that refines itself: its scale follows the gap that is left, for each sub-pixel and at each step.

The first item of the sources' future work: "adaptive noise scaling", large noise at first, then finer around
promising regions. Two rules set the scale.

- *Per sub-pixel*: noise of standard deviation ``scale x gap`` in the gap is what can cancel it. Sub-pixels whose
  single step would change the gap by much more than that are left alone, so that ever fewer, ever weaker ones move
  as the gap closes; the values stay 8-bit, since noise on the lattice is whole steps taken with a probability.
- *Per step*: ``scale`` grows when more than a fifth of the draws improve and shrinks when fewer do (the 1/5th
  success rule of evolution strategies: Rechenberg 1973).

Far from the boundary, where single steps of random sign could not bridge the gap, the noise is folded onto the side
on which the gap falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search.protocol import Asks, Budget, BudgetSpent, Outcome, Probe, gaps
from chimera_lib.images.search.shortlist import Shortlist

if TYPE_CHECKING:
    from torch import nn

DRAWS = 8  # noisy copies for each step
SUCCESS = 0.2  # share of draws that should improve
DAMPING = 0.5  # the scale's change is exp((successes - SUCCESS) / DAMPING)
SCALES = (0.1, 8.0)  # bounds of the scale, in gaps
COARSEST = 1.0  # levels: standard deviation of the folded noise, at most
FEWEST = 48  # sub-pixels that may always move, those of weakest effect
PATIENCE = 25  # steps without an improvement after which the search begins anew from the start image


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Refine ``image``, uint8 (H, W, 3), by noise of falling scale until the backends disagree."""
    probe = Probe(model, oracle, budget)
    shortlist = Shortlist(probe)
    rng = np.random.default_rng(seed)
    try:
        while probe.outcome.chimera is None:
            refine(probe, shortlist, image, rng)
    except BudgetSpent:
        pass
    shortlist.finish()
    return probe.outcome


def refine(probe: Probe, shortlist: Shortlist, image: np.ndarray, rng: np.random.Generator) -> None:
    """One descent: the best of a few noisy copies replaces the point wherever its gap is smaller."""
    point, scale, failures = image, 1.0, 0
    logits, _, effect = probe.gap_gradient(point)
    gap = float(gaps(logits[None])[0])
    probe.visit(point, gap)
    while failures < PATIENCE:
        draws = noisy(point, effect, scale * gap, rng)
        found = gaps(probe.logits(draws))
        if shortlist.offer(draws, found):
            return
        scale *= np.exp((np.mean(found < gap) - SUCCESS) / DAMPING)
        scale = float(np.clip(scale, *SCALES))
        best = int(np.argmin(found))
        failures += 1
        if found[best] < gap:
            point, gap, failures = draws[best], float(found[best]), 0
            probe.visit(point, gap)
            _, _, effect = probe.gap_gradient(point)


def noisy(point: np.ndarray, effect: np.ndarray, target: float, rng: np.random.Generator) -> np.ndarray:
    """``DRAWS`` copies of ``point`` with noise whose effect on the gap has about the size ``target``, in logits.

    ``effect`` (H, W, 3) is what one step up of each sub-pixel adds to the gap. Returns uint8 (DRAWS, H, W, 3).
    """
    strength = np.abs(effect)
    weakest = np.partition(strength.ravel(), min(FEWEST, strength.size) - 1)[min(FEWEST, strength.size) - 1]
    share = np.exp(-((strength / max(target, weakest, 1e-30)) ** 2))
    chance = share * target**2 / max(float((share * strength**2).sum()), 1e-30)  # variance = target^2
    shape = (DRAWS, *point.shape)
    if chance.max() < 1:
        moved = rng.random(shape) < chance
        step = moved * rng.choice([-1, 1], size=shape)
        for draw in np.flatnonzero(~moved.any(axis=(1, 2, 3))):
            weak = rng.choice(np.flatnonzero(strength.ravel() <= max(target, weakest)))
            step[draw].ravel()[weak] = rng.choice([-1, 1])
    else:
        sigma = target / max(float(strength.sum()), 1e-30) * np.sqrt(np.pi / 2)  # levels; mean |N(0, 1)| is sqrt(2/pi)
        size = np.floor(np.abs(rng.standard_normal(shape)) * min(sigma, COARSEST) + rng.random(shape)).astype(int)
        step = -np.sign(effect).astype(int) * size
    return np.clip(point.astype(int) + step, 0, 255).astype(np.uint8)
