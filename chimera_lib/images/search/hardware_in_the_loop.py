"""A gradient walk with the backends in the loop: they are asked at every step, and their gap sets the step.

The fifth item of the sources' future work: "test candidates on actual different backends during generation". The
backends give no gradients, so the direction is that of the torch model: the pairwise gradient of the two logits that
lead on the backends. How far to go is the gap between these as the backends compute it, averaged over them; how far the
linear prediction is to be trusted is learnt from how their gap answered the last step.

Steps are whole 8-bit levels. Far from the boundary one is the set of fewest sub-pixels whose linear effect adds up to
the gap; near it, a single sub-pixel of fitting effect. The torch model screens a few such proposals, since it can say
what a step does to far more digits than its gradient can; the backends see the one that should bring their gap
nearest to zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.images.search.lattice import AGAIN, LARGEST, NOISE, PATIENCE, apply, descend
from chimera_lib.images.search.protocol import (
    GRADIENT_COST,
    Asks,
    Budget,
    BudgetSpent,
    Outcome,
    Probe,
    as_input,
    gaps,
    top_two,
)

if TYPE_CHECKING:
    from torch import nn

PROPOSALS = 12  # steps screened by the model for each oracle call
NEAR = 4.0  # gaps below that many typical single steps are closed by single steps
FAILURES = 8  # oracle calls without a smaller gap after which a walk begins anew
TRUST = (0.25, 4.0)  # bounds of the factor on far steps; 1 where the backends answer as the gradient says


@dataclass
class Stand:
    """Where a walk stands, and what it knows of the place."""

    point: np.ndarray  # uint8 (H, W, 3)
    logits: np.ndarray  # the model's, (classes,)
    pair: tuple[int, int]  # the classes that lead on the backends
    effect: np.ndarray  # of one step up on the gap between them, (H, W, 3)
    gap: float  # between them as the backends compute it, in logits
    tried: np.ndarray = field(init=False)  # sub-pixels whose single step was screened, bool (H, W, 3)

    def __post_init__(self) -> None:
        self.tried = np.zeros(self.point.shape, dtype=bool)


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Walk from ``image``, uint8 (H, W, 3), towards a gap of zero on the backends themselves."""
    probe = Probe(model, oracle, budget)
    rng = np.random.default_rng(seed)
    seen: list[tuple[float, np.ndarray]] = []  # the backends' gap, and the point
    try:
        while probe.outcome.chimera is None:
            walk(probe, image, rng, seen)
    except BudgetSpent:
        pass
    probe.outcome.candidates = [point for _, point in sorted(seen, key=lambda one: one[0])]
    return probe.outcome


def walk(probe: Probe, image: np.ndarray, rng: np.random.Generator, seen: list[tuple[float, np.ndarray]]) -> None:
    """One walk, until a conflict or ``FAILURES``; adds the points asked about to ``seen``."""
    smallest, trust, failures, turn = np.inf, 1.0, 0, 0
    share = AGAIN if seen else 1.0  # of the sub-pixels that may move; the first step of all is the gradient's own
    moved, expected = image, 0.0
    stand: Stand | None = None
    while failures < FAILURES:
        verdict = probe.ask(moved)
        if verdict is None:
            raise BudgetSpent  # there is no oracle to walk with
        logits = verdict.logits[:, 0].astype(np.float64).mean(axis=0)
        gap = float(gaps(logits[None])[0])
        seen.append((-1.0 if verdict.conflict[0] else gap, moved))
        if verdict.conflict[0]:
            return
        if stand is not None:
            trust = believe(trust, expected, stand.gap - gap)
        failures = 0 if gap < smallest else failures + 1
        if stand is None or gap < max(stand.gap, NOISE):
            stand = look(probe, moved, logits)
        smallest = min(smallest, gap)
        places = proposals(stand, image, trust, min(LARGEST, 2 ** (turn // PATIENCE)), share, rng)
        moved = screen(probe, stand, places, {point.tobytes() for _, point in seen})
        expected = -float(((moved.astype(int) - stand.point) * stand.effect).sum())
        turn, share = turn + 1, AGAIN


def look(probe: Probe, point: np.ndarray, backends: np.ndarray) -> Stand:
    """Take a stand at ``point``, where the backends' mean logits (classes,) are ``backends``."""
    probe.spend(GRADIENT_COST)
    first, second = top_two(backends)
    gap = float(backends[first] - backends[second])
    probe.visit(point, gap)
    x = as_input(point[None]).requires_grad_()
    z = probe.model(x)[0]
    (gradient,) = torch.autograd.grad(z[first] - z[second], x)
    effect = gradient[0].permute(1, 2, 0).double().numpy() / 255
    return Stand(point, z.detach().double().numpy(), (first, second), effect, gap)


def proposals(
    stand: Stand, start: np.ndarray, trust: float, levels: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Up to ``PROPOSALS`` different places that should bring the backends' gap to zero, uint8 (N, H, W, 3)."""
    if stand.gap < NEAR * float(np.median(np.abs(stand.effect))):
        return singles(stand, start)
    places = []
    for part in share * np.geomspace(1, 0.1, PROPOSALS):
        free = np.where(rng.random(start.shape) < part, stand.effect, 0.0)
        places.append(descend(stand.point, start, free, trust * stand.gap, levels))
    return np.unique(np.stack(places), axis=0)


def singles(stand: Stand, start: np.ndarray) -> np.ndarray:
    """Single steps whose linear effect comes nearest to cancelling the gap, none of them twice from one stand."""
    step = -np.sign(stand.effect).astype(int)
    level = stand.point.astype(int) + step
    largest = max(1, int(np.abs(stand.point.astype(int) - start).max()))
    usable = (step != 0) & (level >= 0) & (level <= 255) & (np.abs(level - start) <= largest) & ~stand.tried
    misfit = np.where(usable, np.abs(np.abs(stand.effect) - stand.gap), np.inf).ravel()
    where = np.argsort(misfit, kind="stable")[:PROPOSALS]
    where = where[np.isfinite(misfit[where])]
    stand.tried.ravel()[where] = True
    return apply(stand.point, where[:, None], step.ravel()[where][:, None])


def screen(probe: Probe, stand: Stand, places: np.ndarray, known: set[bytes]) -> np.ndarray:
    """That of ``places`` which should bring the backends' gap nearest to zero, by what the model says it changes.

    Places that the backends have seen (``known``) come last.
    """
    if not len(places):
        return stand.point
    first, second = stand.pair
    z = probe.logits(places)
    change = z[:, first] - z[:, second] - (stand.logits[first] - stand.logits[second])
    seen = [place.tobytes() in known for place in places]
    return places[np.lexsort((np.abs(stand.gap + change), seen))[0]]


def believe(trust: float, expected: float, answered: float) -> float:
    """The next factor on the step, from the fall of the gap that was ``expected`` and what the backends ``answered``.

    An answer stronger than the linear prediction shortens the next step, a weaker one lengthens it; one of the wrong
    sign halves it.
    """
    if expected <= 0 or answered <= 0:
        return max(TRUST[0], trust / 2)
    return float(np.clip(trust * np.sqrt(expected / answered), *TRUST))
