"""The lattice walk for several classes at once: k backends each name another one, drawn beforehand or not.

The walk goes to where k classes tie (see ``tie``). Which images there meet the goal is decided by how the backends
round. Half of that lasts from one image to its neighbours, so the walk shows the oracle a few points close to the tie,
goes on around the most promising one, and aims at the gaps at which, by the answers so far, the goal is met most often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images.search import tie
from chimera_lib.images.search.objective import Assigned, Distinct, Judged
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Outcome, Probe

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.images.search.objective import Goal
    from chimera_lib.images.search.protocol import Asks

SCOUTS = 8  # points close to the tie that are shown to the oracle, to go on from the most promising
HEARD, HOPELESS = 6, 0.01  # answers after which a tie is left where the goal would be met less often than that
SPREAD = 6e-7  # logits, of what a backend's rounding adds to a gap from one image to the next; measured
AIMS, DRAWS = 150, 100  # places to aim at, and draws of the backends' rounding at each
PATIENCE = 3  # failed walks for the least change after which a larger one is taken rather than none
AGAIN = 0.7  # share of the sub-pixels that may move in a walk begun anew


def kway(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Look near ``image``, uint8 (H, W, 3), for one that each of the oracle's k backends puts in a class of its own.

    The classes that are to tie are the image's own and the k - 1 nearest to it; which backend names which is left open.
    """
    return walk_to_tie(Probe(model, oracle, budget), image, seed)


def targeted(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """As ``kway``, but ``seed`` draws which backend is to name which class before any backend is asked."""
    return walk_to_tie(Probe(model, oracle, budget), image, seed, assigned=True)


def stealthy(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Look for any conflict by the least change: the smallest L-infinity first, and for that the fewest steps."""
    return walk_to_tie(Probe(model, oracle, budget), image, seed, count=2, limits=tie.Limits(least=True))


def walk_to_tie(
    probe: Probe,
    image: np.ndarray,
    seed: int,
    *,
    count: int | None = None,
    assigned: bool = False,
    limits: tie.Limits | None = None,
) -> Outcome:
    """Walk from ``image`` to ties of ``count`` classes until the oracle's backends name as many, or the budget ends.

    One class for each backend where no ``count`` is given. Raises ChimeraError where the network has fewer classes.
    """
    rng = np.random.default_rng(seed)
    oracle = probe.oracle
    if oracle is None:
        raise ValueError("no oracle; expected one, since only the backends' answers can be aimed at")
    count = count or len(oracle.names)
    try:
        classes = tie.nearest_classes(probe, image, count)
        if len(classes) < count:
            raise ChimeraError(f"{count} backends and a network of {len(classes)} classes; expected no more backends")
        goal: Goal = Assigned(rng.permutation(classes)) if assigned else Distinct(count)
        probe.oracle = Judged(oracle, goal)
        walk = tie.Walk(probe, image, classes, limits or tie.Limits(), rng)
        share, failed = 1.0, 0
        while probe.outcome.chimera is None:
            point = walk.reach(share)
            share = AGAIN
            if point is not None:
                hunt(walk, goal, point)
            elif (failed := failed + 1) >= PATIENCE:
                walk.limits = tie.Limits()
    except BudgetSpent:
        pass
    if probe.outcome.chimera is not None:
        probe.outcome.candidates.insert(0, probe.outcome.chimera)
    return probe.outcome


def hunt(walk: tie.Walk, goal: Goal, point: np.ndarray) -> None:
    """Ask about images around the most promising point close to the tie, as long as there is hope."""
    close, _ = walk.close(point)
    chances = []
    for image in close[:SCOUTS]:
        seen = answer(walk, image)
        if walk.probe.outcome.chimera is not None:
            return
        lean = (seen - seen.mean(axis=0)) / 2  # about half of a deviation lasts
        chances.append(best_aim(walk, goal, lean)[1] if np.isfinite(seen).all() else -1.0)
    if not chances:
        return
    said: list[np.ndarray] = []  # how each backend deviated from the exact gaps (backends, k - 1)

    def aims(gap: np.ndarray) -> np.ndarray | None:
        if not said:
            return np.zeros_like(gap)
        aim, chance = best_aim(walk, goal, np.sum(said, axis=0) / (len(said) + 1))
        return None if len(said) >= HEARD and chance < HOPELESS else aim

    for landings in walk.around(close[int(np.argmax(chances))], aims):
        for image, exact in zip(*landings, strict=True):
            seen = answer(walk, image)
            if walk.probe.outcome.chimera is not None:
                return
            if np.isfinite(seen).all():
                said.append(seen - exact)


def answer(walk: tie.Walk, image: np.ndarray) -> np.ndarray:
    """Ask the oracle about ``image``, uint8 (H, W, 3); the gaps as each backend computes them (backends, k - 1)."""
    walk.probe.outcome.candidates.append(image)
    verdict = walk.probe.ask(image)
    if verdict is None:
        raise BudgetSpent
    return walk.gaps(verdict.logits[:, 0].astype(np.float64))


def best_aim(walk: tie.Walk, goal: Goal, lean: np.ndarray) -> tuple[np.ndarray, float]:
    """The exact gaps (k - 1,) at which ``goal`` is met most often, and how often.

    ``lean`` (backends, k - 1) is what lasts of the backends' deviations from the exact gaps; the rest is drawn anew.
    """
    centre = walk.rng.normal(0, SPREAD, (AIMS, 1, 1, lean.shape[1])) - lean.mean(axis=0)
    noise = walk.rng.normal(0, SPREAD, (1, DRAWS, *lean.shape))
    gap = centre + lean + noise
    ahead = np.concatenate([np.zeros((*gap.shape[:3], 1)), -gap], axis=3).argmax(axis=3)
    met = goal.met(np.array(walk.classes)[ahead.reshape(-1, len(lean))].T).reshape(AIMS, DRAWS).mean(axis=1)
    return centre[met.argmax(), 0, 0], float(met.max())
