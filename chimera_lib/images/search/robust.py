"""The lattice walk for a conflict that carries: two libraries, each with several kernel sets, as far apart as found.

A conflict of one pair says little about the next: what another kernel set, another program or another processor adds
to the gap is of the same size as what set the pair apart. So this walk asks several backends of either library at each
of many images at an exact tie, and keeps the one at which a further backend of either library, deviating from its
library's mean as those asked do from theirs, would most likely still be on its library's side.
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

ASKED = 60  # images at a tie that are compared
SCOUTS = 8  # points close to the tie that are shown to the oracle, to go on from the most promising
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
        while probe.outcome.chimera is None or best.asked < ASKED:
            point = walk.reach(share)
            share = AGAIN
            if point is not None:
                look_around(walk, best, point)
    except BudgetSpent:
        pass
    outcome = probe.outcome
    if best.image is not None:
        outcome.chimera, outcome.predictions = best.image, best.predictions
        outcome.candidates.insert(0, best.image)
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
        self.asked = 0
        self.score = 0.0
        self.image: np.ndarray | None = None
        self.predictions: np.ndarray | None = None

    def ask(self, walk: tie.Walk, image: np.ndarray) -> np.ndarray:
        """The gaps of ``image`` as the backends see them (backends,)."""
        self.asked += 1
        verdict = self.probe.ask(image)
        assert verdict is not None
        gaps = walk.gaps(verdict.logits[:, 0].astype(np.float64))[:, 0]
        score = carries(gaps, self.side) if np.isfinite(gaps).all() else 0.0
        if verdict.conflict[0] and score > self.score:
            self.score, self.image, self.predictions = score, image, verdict.predictions[:, 0].copy()
            self.probe.visit(image, float(np.abs(gaps).min()))
        return gaps


def look_around(walk: tie.Walk, best: Best, point: np.ndarray) -> None:
    """Ask about images around the point at which the libraries' means are furthest apart, and centred between them."""
    close, _ = walk.close(point)
    apart = []
    for image in close[:SCOUTS]:
        gaps = best.ask(walk, image)
        apart.append(abs(gaps[best.side].mean() - gaps[~best.side].mean()) if np.isfinite(gaps).all() else -1.0)
    if not apart:
        return
    said: list[np.ndarray] = []

    def aims(gap: np.ndarray) -> np.ndarray | None:
        if best.asked >= ASKED and best.image is not None:
            return None
        if not said:
            return np.zeros_like(gap)
        lean = np.mean(said, axis=0)
        return -np.array([(lean[best.side].mean() + lean[~best.side].mean()) / 2])

    for landings in walk.around(close[int(np.argmax(apart))], aims):
        for image, exact in zip(*landings, strict=True):
            gaps = best.ask(walk, image)
            if np.isfinite(gaps).all():
                said.append(gaps - exact[0])
