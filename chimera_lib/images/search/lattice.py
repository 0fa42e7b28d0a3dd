"""Walk the 8-bit lattice itself: from a natural image to a point where two backends disagree.

1. **Reach** the boundary: the +-1 pixel steps of largest effect whose sum cancels the top-two gap,
   re-linearised each time, until the gap is about that of a few single steps.
2. **Measure** what a few dozen single +-1 steps really do to the gap. Far from first order alone, a
   measured effect already contains the ReLU kinks that the step crosses.
3. **Close** the gap: effects of different pixels add almost exactly, so all sums of two pairs of
   measured steps are looked up (sorted sums, nearest neighbour) for those that cancel the gap to below
   the backends' noise. The best are evaluated in one batch, and the oracle is asked about those.

A walk that does not end in a chimera is taken up again from its best point, then with fresh steps from
the start image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search.protocol import Asks, Budget, BudgetSpent, Outcome, Probe, top_two

if TYPE_CHECKING:
    from torch import nn

STEPS = 40  # single steps measured around a base point
TRIES = 16  # combinations evaluated together
ASKED = 6  # of those, shown to the oracle at most
NEAR = 8.0  # the boundary is near when the gap is that many typical single steps
NOISE = 8e-6  # logit gap beyond which the oracle need not be asked: several times the backends' noise
REACH_ROUNDS = 30
PATIENCE = 6  # rounds of reaching after which the steps double, for pictures deep inside their class
LARGEST = 8  # levels a sub-pixel may move in one round
CLOSE_ROUNDS = 3
AGAIN = 0.8  # share of the sub-pixels that may move in a round of a walk begun anew


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Look for an image near ``image``, uint8 (H, W, 3), on which the oracle's backends disagree."""
    probe = Probe(model, oracle, budget)
    rng = np.random.default_rng(seed)
    share = 1.0
    try:
        while probe.outcome.chimera is None:
            point, offset = reach(probe, image, share, rng), 0.0
            share = AGAIN
            for _ in range(CLOSE_ROUNDS):
                if point is None or probe.outcome.chimera is not None:
                    break
                point, offset = close(probe, point, image, offset, rng)
    except BudgetSpent:
        pass
    if probe.outcome.chimera is not None:
        probe.outcome.candidates.insert(0, probe.outcome.chimera)
    return probe.outcome


def reach(probe: Probe, image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray | None:
    """Move ``image`` by sets of steps until its top-two gap is that of a few single steps.

    A random ``share`` of the sub-pixels may move in each round, so that walks from one image can differ.
    Returns the point of smallest gap, uint8 (H, W, 3), or None where none came within ten times of that.
    """
    best, smallest = image, np.inf  # in single steps
    point = image
    for turn in range(REACH_ROUNDS):
        logits, (first, second), effect = probe.gap_gradient(point)
        gap = float(logits[first] - logits[second])
        probe.visit(point, gap)
        far = gap / max(float(np.median(np.abs(effect))), 1e-30)
        if far < smallest:
            best, smallest = point, far
        if far < NEAR:
            break
        free = rng.random(image.shape) < share
        point = descend(point, image, np.where(free, effect, 0.0), gap, min(LARGEST, 2 ** (turn // PATIENCE)))
    return best if smallest < 10 * NEAR else None


def descend(point: np.ndarray, start: np.ndarray, effect: np.ndarray, gap: float, levels: int) -> np.ndarray:
    """Take the fewest +-1 steps whose summed linear ``effect`` (H, W, 3) cancels ``gap``.

    Steps that keep within the largest change from ``start`` so far come first, then those that exceed it by
    one. Where all of them together do not cancel the gap, every sub-pixel takes ``levels`` of them.
    """
    step = -np.sign(effect).astype(int)
    level = point.astype(int) + step
    inside = (step != 0) & (level >= 0) & (level <= 255)
    largest = int(np.abs(point.astype(int) - start).max())
    moved = point.astype(int).ravel()
    for bound in (max(1, largest), largest + 1):
        usable = inside & (np.abs(level - start) <= bound)
        strength = np.where(usable, np.abs(effect), 0.0).ravel()
        if strength.sum() > gap:
            taken = fewest(strength, gap)
            moved[taken] += step.ravel()[taken]
            return moved.reshape(point.shape).astype(np.uint8)
    moved += levels * np.where(inside, step, 0).ravel()
    return np.clip(moved, 0, 255).reshape(point.shape).astype(np.uint8)


def fewest(strength: np.ndarray, target: float) -> np.ndarray:
    """Indices of few entries of ``strength`` (N,) that sum to about ``target``: the largest, and one that fills up."""
    order = np.argsort(-strength)
    total = np.cumsum(strength[order])
    count = int(np.searchsorted(total, target))
    rest = target - (total[count - 1] if count else 0.0)
    last = order[count:][np.argmin(np.abs(strength[order[count:]] - rest))]
    return np.append(order[:count], last)


def close(
    probe: Probe, point: np.ndarray, start: np.ndarray, offset: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """One round of measured single steps and their combinations.

    ``offset`` is how far the backends' mean gap was last seen to lie above the model's own: the sets are
    chosen to put the backends' gap, not the model's, at zero. Returns the point whose gap came
    closest to that, and the offset as the round's verdicts show it.
    """
    logits = probe.logits(point[None])[0]
    first, second = top_two(logits)
    gap = logits[first] - logits[second]
    where, step = random_steps(point, start, rng)
    z = probe.logits(apply(point, where[:, None], step[:, None]))
    effects = z[:, first] - z[:, second] - gap
    sets = cancelling_sets(effects, gap + offset, rng)
    images = apply(point, where[sets], step[sets])
    z = probe.logits(images)
    signed = z[:, first] - z[:, second]
    others = np.delete(z, [first, second], axis=1).max(axis=1, initial=-np.inf)
    signed[np.minimum(z[:, first], z[:, second]) <= others] = np.inf  # a third class leads here
    nearest = int(np.argmin(np.abs(signed + offset)))
    probe.visit(images[nearest], abs(signed[nearest]))
    seen: list[float] = []
    left = list(range(len(images)))
    for _ in range(ASKED):
        index = min(left, key=lambda i: abs(signed[i] + offset))
        if abs(signed[index] + offset) > NOISE:
            break
        left.remove(index)
        probe.outcome.candidates.append(images[index])
        verdict = probe.ask(images[index])
        if verdict is None or verdict.conflict[0]:
            return images[index], offset
        seen.append(float(np.mean(verdict.logits[:, 0, first] - verdict.logits[:, 0, second])) - signed[index])
        offset = float(np.mean(seen))
    return images[nearest], offset


def random_steps(point: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Choose ``STEPS`` distinct sub-pixels (flat indices) and for each a direction, +1 or -1.

    Values stay in 0..255, and no further from ``start`` than the sub-pixel of ``point`` that is furthest from it.
    """
    where = rng.choice(point.size, size=min(STEPS, point.size), replace=False)
    level = point.ravel()[where].astype(int)
    change = level - start.ravel()[where]
    largest = max(1, int(np.abs(point.astype(int) - start).max()))
    step = rng.choice([-1, 1], size=len(where))
    step[(level == 0) | (change == -largest)] = 1
    step[(level == 255) | (change == largest)] = -1
    return where, step


def apply(point: np.ndarray, where: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Add steps (N, k) at flat sub-pixels (N, k) to copies of ``point``; returns uint8 (N, H, W, 3)."""
    moved = np.repeat(point.reshape(1, -1).astype(int), len(where), axis=0)
    np.put_along_axis(moved, where, np.take_along_axis(moved, where, axis=1) + step, axis=1)
    return moved.reshape(-1, *point.shape).astype(np.uint8)


def cancelling_sets(effects: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    """Indices (<= TRIES, 4) of four different steps whose effects (STEPS,) sum closest to ``-gap``.

    All pair sums are sorted; for every pair the nearest completing pair is looked up, so the
    best quadruple of 40 steps is found among 91,390 in about a millisecond.
    """
    i, j = np.triu_indices(len(effects), k=1)
    sums = effects[i] + effects[j]
    order = np.argsort(sums)
    ordered = sums[order]
    places = np.clip(np.searchsorted(ordered, -gap - sums), 1, len(sums) - 1)
    partner = np.concatenate([order[places - 1], order[places]])
    pair = np.tile(np.arange(len(sums)), 2)
    residual = np.abs(sums[pair] + sums[partner] + gap)
    sets = np.stack([i[pair], j[pair], i[partner], j[partner]], axis=1)
    ordered_sets = np.sort(sets, axis=1)
    distinct = (np.diff(ordered_sets, axis=1) > 0).all(axis=1)
    sets, residual = ordered_sets[distinct], residual[distinct]
    best = np.argsort(residual)[: 8 * TRIES]  # a set occurs up to six times, once for each way to pair it
    _, unique = np.unique(sets[best], axis=0, return_index=True)
    chosen = best[np.sort(unique)][:TRIES]
    return sets[rng.permutation(chosen)]
