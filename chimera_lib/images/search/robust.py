"""The lattice walk for a conflict that carries: two libraries, each with several kernel sets, as far apart as found.

A conflict of one pair says little about the next: what another kernel set, another program or another processor adds
to the gap is of the same size as what set the pair apart. What is common to a library's kernel sets does carry. So this
walk asks several backends of either library, goes on around the point close to a tie at which the libraries' means lie
furthest apart, and asks about many images at the exact tie. It keeps the one at which a further backend of either
library would most likely still be on its library's side, and it spends its whole budget on that. Where the rounding of
backends has nothing in common, the best that there is to gain is the middle: a conflict on every second pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from chimera_lib.errors import ChimeraError
from chimera_lib.images.search import tie
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Outcome, Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from chimera_lib.images.search.protocol import Asks

SCOUTS = 24  # points close to the tie, around the best of which images are compared
ASKED = 60  # images at one tie that are compared, before the walk begins anew
SPREAD = 9e-7  # logits, by which one backend's gap deviates from another's; measured
AGAIN = 0.7  # share of the sub-pixels that may move in a walk begun anew


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Look near ``image``, uint8 (H, W, 3), for the conflict of two libraries that is most likely to carry."""
    rng = np.random.default_rng(seed)
    side = sides(oracle.names)
    probe = Probe(model, oracle, budget)
    best = Best(probe, side)
    try:
        classes = tie.nearest_classes(probe, image, 2)
        walk = tie.Walk(probe, image, classes, tie.Limits(), rng)
        share = 1.0
        while True:
            point = walk.reach(share)
            share = AGAIN
            if point is not None and (start := scout(walk, best, point)) is not None:
                settle(walk, best, start)
    except BudgetSpent:
        pass
    outcome = probe.outcome
    if best.image is not None:  # else a first conflict, if any, in which a third class leads
        outcome.chimera, outcome.predictions = best.image, best.predictions
    if outcome.chimera is not None:
        outcome.candidates.insert(0, outcome.chimera)
    return outcome


def sides(names: Sequence[str]) -> np.ndarray:
    """Bool (backends,): whether a backend is of the first one's library. Raises ChimeraError unless there are two."""
    from chimera_lib.images.backends import registry

    libraries = [registry.get(name).library for name in names]
    if len(set(libraries)) != 2:
        raise ChimeraError(
            f"--backends {','.join(names)}: libraries {', '.join(sorted(set(libraries)))}; the robust objective expects"
            " the kernel sets of exactly two, such as openblas,openblas:Haswell,blis,debian-blis"
        )
    return np.array(libraries) == libraries[0]


def carries(gaps: np.ndarray, side: np.ndarray) -> float:
    """The chance that an unseen backend of either library is on its library's side, by gaps (backends,)."""
    chance = []
    for each in (gaps[side], gaps[~side]):
        spread = np.hypot(SPREAD, SPREAD / np.sqrt(len(each)))
        chance.append(norm.cdf(each.mean() / spread))
    return float(max(chance[0] * (1 - chance[1]), chance[1] * (1 - chance[0])))


class Best:
    """Asks the oracle and keeps the image that is most likely to carry."""

    def __init__(self, probe: Probe, side: np.ndarray) -> None:
        self.probe, self.side = probe, side
        self.score = 0.0
        self.image: np.ndarray | None = None
        self.predictions: np.ndarray | None = None

    def ask(self, walk: tie.Walk, image: np.ndarray) -> tuple[np.ndarray, float]:
        """The gaps of ``image`` as the backends see them (backends,), and how far apart the libraries' means are."""
        self.probe.outcome.candidates.append(image)
        verdict = self.probe.ask(image)
        if verdict is None:
            raise BudgetSpent
        gaps = walk.gaps(verdict.logits[:, 0].astype(np.float64))[:, 0]
        if not np.isfinite(gaps).all():
            return gaps, 0.0
        score = carries(gaps, self.side)
        if verdict.conflict[0] and score > self.score:
            self.score, self.image, self.predictions = score, image, verdict.predictions[:, 0].copy()
            self.probe.visit(image, float(np.abs(gaps).min()))
        return gaps, float(gaps[self.side].mean() - gaps[~self.side].mean())


def scout(walk: tie.Walk, best: Best, point: np.ndarray) -> np.ndarray | None:
    """The point close to the tie at which the libraries' means are furthest apart, uint8 (H, W, 3)."""
    close, _ = walk.close(point)
    apart = [abs(best.ask(walk, image)[1]) for image in close[:SCOUTS]]
    return close[int(np.argmax(apart))] if apart else None


def settle(walk: tie.Walk, best: Best, point: np.ndarray) -> None:
    """Ask about images around ``point`` at which the libraries' means lie on either side of the tie."""
    said: list[np.ndarray] = []

    def aims(gap: np.ndarray) -> np.ndarray | None:
        if len(said) >= ASKED:
            return None
        if not said:
            return np.zeros_like(gap)
        lean = np.mean(said, axis=0)
        return -np.array([(lean[best.side].mean() + lean[~best.side].mean()) / 2])

    for landings in walk.around(point, aims):
        for image, exact in zip(*landings, strict=True):
            gaps, _ = best.ask(walk, image)
            if np.isfinite(gaps).all():
                said.append(gaps - exact[0])
