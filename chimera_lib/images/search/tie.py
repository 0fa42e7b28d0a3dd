"""Walk the 8-bit lattice to a point where k classes tie, and exactly there: what several objectives share.

The lattice walk's idea with k - 1 gaps instead of one; gap i is the logit of the first class minus that of class i:

1. **Reach** the tie: a linear programme finds the least total of pixel steps whose linear effect cancels all gaps at
   once, each sub-pixel at most ``bound`` levels from the start image. A basic solution of it has k - 1 fractional
   entries at most, so it is a set of whole steps but for those.
2. **Close** it: what some dozens of typical single steps really do to the gaps is measured, and sets of them that
   cancel all gaps are looked up: all sums of two lie in a nearest-neighbour tree of the space of gaps, and each sum of
   two (for four classes and more, three) looks up the one that completes it to zero.
3. **Around** such a point, the same with steps of small effect and in double precision, to land where one aims.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import cKDTree

from chimera_lib.images.search.lattice import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chimera_lib.images.search.protocol import Probe

STEPS = 48  # typical single steps measured around a point near the tie
SMALL = 72  # small single steps measured around a point close to the tie
PORTIONS = 3  # how often as many more are measured there, when those before have not been enough
TRIES = 24  # combinations evaluated together
BATCHES = 12  # of combinations for one portion at most
HALVES = 150_000  # halves of sets that look up their completion
NEIGHBOURS = 4  # completions looked up for each half of a set
NEAR = 3.0  # a tie is near when every gap is this many typical single steps
NOISE = 1e-6  # logits by which a set may miss the place aimed at
ROUNDING = 3e-6  # logits by which the model in float32 may miss the exact gaps
AHEAD = 0.05  # logits by which the tied classes are to lead a rival
REACH_ROUNDS = 14
LEAST_ROUNDS = 28  # of a walk for the least change
PUSHES = 2  # moves to the edge of a bound, in such a walk, before the bound is widened
TAKEN_ANEW = 12  # rounds in which such a walk takes its whole change anew


@dataclass(frozen=True)
class Limits:
    """How far a walk may go from its start: ``bound`` levels a sub-pixel where that suffices, ``largest`` at most.

    A ``least`` walk, of two classes, tries harder before it widens the bound, and for the least total change from
    its start instead of from where it is.
    """

    bound: int = 1
    largest: int = 32
    least: bool = False


class Landings(NamedTuple):
    """Images uint8 (N, H, W, 3), and the exact gaps (N, k - 1) at them."""

    images: np.ndarray
    gaps: np.ndarray


class Walk:
    """One start image's walk to where ``classes`` (k,) tie; all work is booked on ``probe``."""

    def __init__(
        self, probe: Probe, start: np.ndarray, classes: Sequence[int], limits: Limits, rng: np.random.Generator
    ) -> None:
        self.probe, self.start, self.classes, self.limits, self.rng = probe, start, list(classes), limits, rng
        self.count = len(classes) - 1  # of gaps
        self.sizes = (2, 2) if len(classes) < 4 else (2, 3)  # steps in either half of a set
        self.rivals: list[int] = []  # other classes that were seen to lead where these tie, and are to be kept below

    def gaps(self, logits: np.ndarray) -> np.ndarray:
        """Gaps (N, k - 1) of logits (N, classes); infinite where another class leads."""
        tied = logits[:, self.classes]
        others = np.delete(logits, self.classes, axis=1).max(axis=1, initial=-np.inf)
        gap = tied[:, :1] - tied[:, 1:]
        gap[tied.min(axis=1) <= others] = np.inf
        return gap

    def linear(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gaps (k - 1 and the rivals',) at ``point`` and what one level up adds to each (gaps, sub-pixels)."""
        named = self.classes + self.rivals
        logits, gradients = self.probe.class_gradients(point, named)
        flat = gradients.reshape(len(named), -1)
        return logits[named[0]] - logits[named[1:]], flat[0] - flat[1:]

    def note_rival(self, point: np.ndarray) -> bool:
        """Whether a class outside of those that are to tie leads at ``point``; it is kept below from now on."""
        logits = self.probe.logits(point[None])[0]
        lowest = logits[self.classes].min()
        logits[self.classes] = -np.inf
        leader = int(logits.argmax())
        if logits[leader] < lowest:
            return False
        if leader not in self.rivals:
            self.rivals.append(leader)
        return True

    def reach(self, share: float) -> np.ndarray | None:
        """Go from the start to a point whose gaps are those of a few single steps; None where that fails.

        A random ``share`` of the sub-pixels may move, so that walks from one image can differ.
        """
        point, bound, pushes = self.start, self.limits.bound, 0
        free = self.rng.random(self.start.size) < share
        for turn in range(LEAST_ROUNDS if self.limits.least else REACH_ROUNDS):
            gap, effect = self.linear(point)
            tied = self.count
            self.probe.visit(point, float(np.abs(gap[:tied]).max()))
            if np.abs(gap[:tied]).max() < NEAR * np.median(np.abs(effect)) and not self.note_rival(point):
                return point
            base = self.start if self.limits.least and turn < TAKEN_ANEW else point
            level = None
            while level is None and bound <= self.limits.largest:
                level = self.least_change(point, base, effect, gap, bound, free)
                if level is None and self.limits.least and pushes < PUSHES:
                    level, pushes = self.edge(point, effect[0] * np.sign(gap[0]), bound, free), pushes + 1
                elif level is None:
                    bound, pushes = bound + 1, 0
            if level is None:
                return None
            if (level == point).all():  # nearer than single steps can bring it
                return point
            point = level
        return None

    def within(self, point: np.ndarray, bound: int, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest levels (sub-pixels,) allowed: 0..255, ``bound`` from the start; held where not free."""
        level, origin = point.ravel().astype(int), self.start.ravel().astype(int)
        low = np.where(free, np.maximum(0, origin - bound), level)
        high = np.where(free, np.minimum(255, origin + bound), level)
        return np.minimum(low, level), np.maximum(high, level)

    def edge(self, point: np.ndarray, effect: np.ndarray, bound: int, free: np.ndarray) -> np.ndarray:
        """The image within ``bound`` that lowers most what each level up adds ``effect`` (sub-pixels,) to."""
        low, high = self.within(point, bound, free)
        return np.where(effect > 0, low, high).reshape(point.shape).astype(np.uint8)

    def least_change(
        self, point: np.ndarray, base: np.ndarray, effect: np.ndarray, gap: np.ndarray, bound: int, free: np.ndarray
    ) -> np.ndarray | None:
        """The image of least total change from ``base`` in whose linear model at ``point`` no ``gap`` is left, or None.

        Every value stays in 0..255 and within ``bound`` of the start.
        """
        low, high = (edge - base.ravel().astype(int) for edge in self.within(point, bound, free))
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        tied, scale = self.count, 1 / np.abs(effect).max()
        gap = gap + effect @ (base.ravel().astype(float) - point.ravel())
        matrix = np.hstack([effect, -effect]) * scale
        limits = np.concatenate([np.stack([np.zeros_like(high), high], 1), np.stack([np.zeros_like(low), -low], 1)])
        above = {}
        if len(gap) > tied:  # the first class is to stay ahead of every rival
            above = {"A_ub": -matrix[tied:], "b_ub": (gap[tied:] - AHEAD) * scale}
        solved = linprog(np.ones(2 * len(low)), A_eq=matrix[:tied], b_eq=-gap[:tied] * scale, bounds=limits, **above)
        if solved.x is None:
            return None
        up, down = np.split(solved.x, 2)
        return (base.ravel().astype(int) + np.rint(up - down).astype(int)).reshape(point.shape).astype(np.uint8)

    def close(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points far closer to the tie than single steps are: ``point`` and sets of typical measured steps.

        Returns images uint8 (N, H, W, 3) and their largest gaps (N,), closest first; none where too few steps are left.
        """
        _, effect = self.linear(point)
        where, step = self.steps(point, effect[: self.count], STEPS, small=False)
        gap, change = self.measure(point, where, step, self.probe.logits)
        usable = np.flatnonzero(np.isfinite(change).all(axis=1))
        if len(usable) < STEPS // 2 or not np.isfinite(gap).all():
            return point[None][:0], np.empty(0)
        sets = usable[completing_sets(change[usable], gap, *self.sizes, rng=self.rng)[:TRIES]]
        images = apply(point, where[sets], step[sets])
        largest = np.abs(self.gaps(self.probe.logits(images))).max(axis=1)
        order = [i for i in np.argsort(largest, kind="stable") if np.isfinite(largest[i])]
        if order:
            self.probe.visit(images[order[0]], float(largest[order[0]]))
        return images[order], largest[order]

    def measure(
        self, point: np.ndarray, where: np.ndarray, step: np.ndarray, evaluate: Callable[..., np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gaps (k - 1,) at ``point``, and what each single step really adds to them (N, k - 1).

        NaN where another class leads.
        """
        gaps = self.gaps(evaluate(np.concatenate([point[None], apply(point, where[:, None], step[:, None])])))
        gaps[~np.isfinite(gaps)] = np.nan
        return gaps[0], gaps[1:] - gaps[0]

    def around(self, point: np.ndarray, aims: Callable[[np.ndarray], np.ndarray | None]) -> Iterator[Landings]:
        """Sets of small steps around ``point`` that land exactly where ``aims`` says, batch by batch.

        ``aims`` is given the gaps (k - 1,) at ``point`` and says which gaps are wanted next, or None to end. Effects of
        steps this small mostly add up exactly, which is worth knowing in double precision only: the model's own
        rounding in float32 would be as large as that of the backends. What did not add up is left out.
        """
        _, effect = self.linear(point)
        where, step = self.steps(point, effect[: self.count], PORTIONS * SMALL, small=True)
        change = np.empty((0, self.count))
        tried: set[bytes] = set()
        for portion in np.array_split(np.arange(len(where)), PORTIONS):
            gap, more = self.measure(point, where[portion], step[portion], self.probe.exact_logits)
            change = np.concatenate([change, more])
            usable = np.flatnonzero(np.isfinite(change).all(axis=1))
            if len(usable) < STEPS or not np.isfinite(gap).all():
                return
            for _ in range(BATCHES):
                if (aim := aims(gap)) is None:
                    return
                sets = usable[completing_sets(change[usable], gap - aim, *self.sizes, rng=self.rng)]
                landing = gap + change[sets].sum(axis=1)
                near = np.abs(landing - aim).max(axis=1) < NOISE
                fresh = [i for i in np.flatnonzero(near) if sets[i].tobytes() not in tried][:TRIES]
                if not fresh:
                    break
                tried.update(sets[i].tobytes() for i in fresh)
                images, landing = apply(point, where[sets[fresh]], step[sets[fresh]]), landing[fresh]
                missed = np.abs(self.gaps(self.probe.logits(images)) - landing).max(axis=1)
                self.probe.visit(images[0], float(np.abs(landing[0]).max()))
                yield Landings(images[missed < ROUNDING], landing[missed < ROUNDING])

    def steps(self, point: np.ndarray, effect: np.ndarray, count: int, *, small: bool) -> tuple[np.ndarray, np.ndarray]:
        """Choose ``count`` sub-pixels and for each a direction, within 0..255 and the largest change so far.

        ``small`` takes those of least effect; else any.
        """
        level, origin = point.ravel().astype(int), self.start.ravel().astype(int)
        largest = max(self.limits.bound, int(np.abs(level - origin).max()))
        size = np.abs(effect).max(axis=0)
        pool = np.flatnonzero(size > 0)
        if small:
            pool = pool[np.argsort(size[pool])[: 2 * count]]
        where = self.rng.choice(pool, size=min(count, len(pool)), replace=False)
        step = self.rng.choice([-1, 1], size=len(where))
        step[(level[where] == 0) | (level[where] - origin[where] <= -largest)] = 1
        step[(level[where] == 255) | (level[where] - origin[where] >= largest)] = -1
        return where, step


def nearest_classes(probe: Probe, image: np.ndarray, count: int) -> list[int]:
    """The leading class and those that would tie with it soonest, if every sub-pixel moved: ``count`` in all.

    By DeepFool's ratio for changes bounded in L-infinity (Moosavi-Dezfooli et al. 2016): gap over gradient's L1 norm.
    """
    everything = range(len(probe.logits(image[None])[0]))
    logits, gradients = probe.class_gradients(image, everything)
    first = int(logits.argmax())
    pull = np.abs(gradients[first] - gradients).reshape(len(logits), -1).sum(axis=1)
    pull[first] = 1.0
    distance = (logits[first] - logits) / np.maximum(pull, 1e-30)
    return [int(c) for c in np.argsort(distance, kind="stable")[:count]]


def completing_sets(effects: np.ndarray, gap: np.ndarray, *sizes: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (N, sum of sizes) of different steps whose effects (N, m) sum closest to ``-gap`` (m,), closest first.

    All sums of as many steps as the first of ``sizes`` go into a tree, those of the second look up their completion.
    """
    parts = [np.array(list(combinations(range(len(effects)), size))) for size in sizes]
    if len(parts[1]) > HALVES:
        parts[1] = parts[1][rng.choice(len(parts[1]), HALVES, replace=False)]
    sums = [effects[part].sum(axis=1) for part in parts]
    distance, partner = cKDTree(sums[0]).query(-gap - sums[1], k=NEIGHBOURS)
    order = np.argsort(distance.ravel(), kind="stable")[: 20 * TRIES * BATCHES]
    sets = np.hstack([parts[1][order // NEIGHBOURS], parts[0][partner.ravel()[order]]])
    sets = np.sort(sets, axis=1)
    sets = sets[(np.diff(sets, axis=1) > 0).all(axis=1)]
    _, unique = np.unique(sets, axis=0, return_index=True)
    return sets[np.sort(unique)]
