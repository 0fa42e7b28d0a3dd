"""Walks to where classes tie: sets that cancel, steps that keep within bounds, and what all of it costs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chimera_lib.images.search import tie
from chimera_lib.images.search.lattice import apply
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Probe, top_two

if TYPE_CHECKING:
    from torch import nn

SEEDS = st.integers(0, 2**32 - 1)
SHAPE = (4, 4, 3)
REACHED = (5, 8, 9)  # pictures of which three classes tie nearby; from some others the walk swings about the tie


def missed(effects: np.ndarray, sets: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """How far the sum of each set's effects lies from ``-gap``."""
    return np.linalg.norm(effects[sets].sum(axis=1) + gap, axis=1)


def problem(seed: int, steps: int, gaps: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1e-3, (steps, gaps)), rng.normal(0, 1e-3, gaps), rng


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, steps=st.integers(8, 16), gaps=st.integers(1, 3), sizes=st.sampled_from([(2, 2), (2, 3)]))
def test_completing_sets_are_different_steps_closest_first(seed: int, steps: int, gaps: int, sizes) -> None:
    effects, gap, rng = problem(seed, steps, gaps)
    sets = tie.completing_sets(effects, gap, *sizes, rng=rng)
    assert sets.shape == (len(sets), sum(sizes))
    assert all(len(set(row)) == sum(sizes) for row in sets.tolist())
    assert len({tuple(row) for row in sets.tolist()}) == len(sets), "each set once"
    assert sets.min() >= 0 and sets.max() < steps
    assert (np.diff(missed(effects, sets, gap)) >= -1e-15).all()


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, steps=st.integers(4, 12), gaps=st.integers(1, 3))
def test_completing_sets_with_all_neighbours_are_the_best_there_are(seed: int, steps: int, gaps: int) -> None:
    effects, gap, rng = problem(seed, steps, gaps)
    every = np.array(list(itertools.combinations(range(steps), 4)))
    best = np.sort(missed(effects, every, gap))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tie, "NEIGHBOURS", steps * (steps - 1) // 2)
        sets = tie.completing_sets(effects, gap, 2, 2, rng=rng)
    got = missed(effects, sets, gap)
    assert got == pytest.approx(best[: len(got)], abs=1e-15)
    assert len(got) == min(len(every), len(got)) >= 1


@pytest.mark.parametrize("gaps", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(2, 2), (2, 3)])
def test_few_neighbours_do_far_better_than_chance(gaps: int, sizes: tuple[int, int]) -> None:
    ahead = []
    for seed in range(10):
        effects, gap, rng = problem(seed, 24, gaps)
        drawn = np.stack([rng.choice(24, sum(sizes), replace=False) for _ in range(500)])
        found = missed(effects, tie.completing_sets(effects, gap, *sizes, rng=rng), gap).min()
        ahead.append(found <= missed(effects, drawn, gap).min() + 1e-15)
    assert sum(ahead) >= 9


def test_completing_sets_when_halves_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """More halves than may be looked up: some are drawn, and what comes back is as valid."""
    monkeypatch.setattr(tie, "HALVES", 50)
    effects, gap, rng = problem(0, 20, 2)
    sets = tie.completing_sets(effects, gap, 2, 3, rng=rng)
    assert 0 < len(sets) <= 50 * tie.NEIGHBOURS
    assert (np.diff(sets, axis=1) > 0).all()


def bare_walk(start: np.ndarray, gaps: int, seed: int = 0) -> tie.Walk:
    """A walk that is asked for linear programmes and steps only: it has no network to evaluate."""
    probe = object.__new__(Probe)
    return tie.Walk(probe, start, range(gaps + 1), tie.Limits(), np.random.default_rng(seed))


@settings(deadline=None, max_examples=60)
@given(
    seed=SEEDS,
    gaps=st.integers(1, 3),
    rivals=st.integers(0, 1),
    bound=st.integers(1, 4),
    share=st.floats(0.3, 1),
    anew=st.booleans(),
)
def test_least_change_cancels_the_linear_gap_within_bounds(
    seed: int, gaps: int, rivals: int, bound: int, share: float, anew: bool
) -> None:
    rng = np.random.default_rng(seed)
    start = rng.choice([0, 1, 128, 254, 255], SHAPE).astype(np.uint8)
    point = np.clip(start + rng.integers(-bound, bound + 1, SHAPE), 0, 255).astype(np.uint8)
    effect = rng.normal(0, 1e-3, (gaps + rivals, start.size))
    gap = np.append(rng.normal(0, 4e-3, gaps), np.full(rivals, 1.0))
    free = rng.random(start.size) < share
    if anew:
        point.ravel()[~free] = start.ravel()[~free]
    base = start if anew else point
    image = bare_walk(start, gaps).least_change(point, base, effect, gap, bound, free)
    assume(image is not None)
    assert np.abs(image.astype(int) - start).max() <= bound
    change = image.ravel().astype(int) - point.ravel()
    assert not change[~free].any()
    # At most one entry for each condition is no whole number; rounding moves each of those by half a level at most.
    largest = np.sort(np.abs(effect), axis=1)[:, -(gaps + rivals) :].sum(axis=1)
    left = effect @ change + gap
    assert (np.abs(left) <= largest / 2 + 1e-9)[:gaps].all()
    assert (left[gaps:] >= tie.AHEAD - largest[gaps:] / 2).all()


def test_least_change_takes_the_strongest_steps() -> None:
    """Where whole steps cancel the gap, it is those, and as few as can be."""
    effect = np.full((1, 48), 1e-3)
    effect[0, [3, 30]] = 4e-3, -4e-3
    start = np.full(SHAPE, 9, np.uint8)
    image = bare_walk(start, 1).least_change(start, start, effect, np.array([8e-3]), 1, np.ones(48, bool))
    assert image is not None
    change = image.ravel().astype(int) - 9
    assert (np.flatnonzero(change).tolist(), change[[3, 30]].tolist()) == ([3, 30], [-1, 1])


def test_a_change_taken_anew_gives_back_what_is_not_needed() -> None:
    """From a point that went too far and aside, the least change from the start undoes the rest."""
    effect = np.full((1, 48), 1e-3)
    effect[0, [3, 30]] = 4e-3, -4e-3
    start = np.full(SHAPE, 9, np.uint8)
    point = start + np.arange(48, dtype=np.uint8).reshape(SHAPE) % 2
    gap = np.array([8e-3]) + effect @ (point.ravel().astype(float) - 9)
    free = np.ones(48, bool)
    image = bare_walk(start, 1).least_change(point, start, effect, gap, 1, free)
    assert image is not None and np.flatnonzero(image.ravel() != 9).tolist() == [3, 30]
    edge = bare_walk(start, 1).edge(point, effect[0], 2, free)
    assert set(np.unique(edge)) == {7, 11} and edge.ravel()[3] == 7 and edge.ravel()[30] == 11


def test_least_change_says_where_there_is_none() -> None:
    walk, effect = bare_walk(np.full(SHAPE, 9, np.uint8), 1), np.full((1, 48), 1e-3)
    for gap, free in ((0.05, 48), (0.04, 30)):
        assert walk.least_change(walk.start, walk.start, effect, np.array([gap]), 1, np.arange(48) < free) is None
        assert walk.least_change(walk.start, walk.start, effect, np.array([gap]), 2, np.arange(48) < free) is not None


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, far=st.integers(0, 3), small=st.booleans())
def test_steps_keep_to_the_largest_change_so_far(seed: int, far: int, small: bool) -> None:
    rng = np.random.default_rng(seed)
    start = rng.choice([0, 1, 128, 254, 255], SHAPE).astype(np.uint8)
    point = np.clip(start + rng.integers(-far, far + 1, SHAPE), 0, 255).astype(np.uint8)
    effect = rng.normal(0, 1e-3, (2, start.size)) * (rng.random(start.size) < 0.8)
    where, step = bare_walk(start, 2, seed).steps(point, effect, 12, small=small)
    assert len(set(where.tolist())) == len(where) == len(step) == 12
    assert set(np.abs(step)) == {1}
    moved = apply(point, where[None], step[None])[0].astype(int)
    assert np.abs(moved - point).sum() == 12, "no value wraps around"
    assert np.abs(moved - start).max() <= max(1, np.abs(point.astype(int) - start).max())
    strength = np.abs(effect).max(axis=0)
    assert strength[where].min() > 0, "a step without effect is an evaluation wasted"
    if small:
        assert strength[where].max() <= np.sort(strength[strength > 0])[:24].max()


def test_walks_reach_the_tie_and_close_it(small_model: nn.Module, pictures: np.ndarray) -> None:
    nearer = []
    for number, count in itertools.product(REACHED, (2, 3)):
        probe, image = Probe(small_model, None, Budget(evaluations=600)), pictures[number]
        classes = tie.nearest_classes(probe, image, count)
        walk = tie.Walk(probe, image, classes, tie.Limits(), np.random.default_rng(number))
        point = walk.reach(1.0)
        assert point is not None
        images, largest = walk.close(point)
        assert len(images) and (np.diff(largest) >= 0).all()
        assert np.abs(images.astype(int) - image).max() <= 2
        assert np.abs(walk.gaps(probe.logits(images))).max(axis=1) == pytest.approx(largest)
        nearer.append(np.abs(walk.gaps(probe.logits(point[None]))).max() / largest[0])
    assert np.sort(nearer)[1] > 20, "all but one are closed by far"


def test_around_lands_where_it_is_told(small_model: nn.Module, pictures: np.ndarray) -> None:
    """What it says of its images' exact gaps is so, in double precision; and it ends when it is told."""
    probe, image = Probe(small_model, None, Budget(evaluations=2000)), pictures[REACHED[0]]
    walk = tie.Walk(probe, image, tie.nearest_classes(probe, image, 3), tie.Limits(), np.random.default_rng(1))
    point = walk.reach(1.0)
    assert point is not None
    close, _ = walk.close(point)
    aims = [np.array([2e-6, -1e-6]), np.array([-3e-6, 0.0])]
    landed: list[tie.Landings] = []
    for landings in walk.around(close[0], lambda _: aims[len(landed)] if len(landed) < len(aims) else None):
        landed.append(landings)
    assert len(landed) == len(aims)
    for each, aim in zip(landed, aims, strict=True):
        assert len(each.images)
        assert np.abs(each.gaps - aim).max() < tie.NOISE
        exact = walk.gaps(probe.exact_logits(each.images))
        assert np.abs(exact - each.gaps).max() < tie.ROUNDING
        assert np.median(np.abs(exact - each.gaps).max(axis=1)) < tie.NOISE
    shown = np.concatenate([each.images for each in landed])
    assert np.abs(shown.astype(int) - image).max() <= max(1, np.abs(close[0].astype(int) - image).max())


def test_nearest_classes_are_counted_and_begin_with_the_leader(small_model: nn.Module, pictures: np.ndarray) -> None:
    for image in pictures[:3]:
        probe = Probe(small_model, None, Budget())
        classes = tie.nearest_classes(probe, image, 4)
        assert probe.outcome.evaluations == 1 + 1 + 2 * 10  # to count the classes, and the gradient of each of the ten
        assert len(set(classes)) == 4
        logits, gradients = probe.class_gradients(image, range(10))
        first = int(logits.argmax())
        assert classes[0] == first
        ratio = {c: (logits[first] - logits[c]) / np.abs(gradients[first] - gradients[c]).sum() for c in range(10)
                 if c != first}  # fmt: skip
        assert classes[1:] == sorted(ratio, key=ratio.__getitem__)[:3]
    with pytest.raises(BudgetSpent):
        tie.nearest_classes(Probe(small_model, None, Budget(evaluations=21)), pictures[0], 2)


def test_gaps_are_infinite_where_another_class_leads() -> None:
    walk = bare_walk(np.zeros(SHAPE, np.uint8), 2)  # of classes 0, 1 and 2
    got = walk.gaps(np.array([[3.0, 1.0, 2.0, 0.0], [3.0, 1.0, 2.0, 1.5], [3.0, 3.0, 3.0, 3.0]]))
    assert got.tolist() == [[2.0, 1.0], [np.inf, np.inf], [np.inf, np.inf]]


def test_a_rival_is_noted_once_and_kept_below(small_model: nn.Module, pictures: np.ndarray) -> None:
    probe = Probe(small_model, None, Budget())
    logits = probe.logits(pictures[:1])[0]
    order = [int(c) for c in np.argsort(-logits)]
    walk = tie.Walk(probe, pictures[0], order[1:3], tie.Limits(), np.random.default_rng(0))
    assert walk.note_rival(pictures[0]) and walk.note_rival(pictures[0])
    assert walk.rivals == order[:1]
    gap, effect = walk.linear(pictures[0])
    assert gap == pytest.approx([logits[order[1]] - logits[order[2]], logits[order[1]] - logits[order[0]]], abs=1e-5)
    assert effect.shape == (2, pictures[0].size)
    assert not tie.Walk(probe, pictures[0], order[:2], tie.Limits(), np.random.default_rng(0)).note_rival(pictures[0])


def test_exact_logits_are_the_models_and_are_counted(small_model: nn.Module, pictures: np.ndarray) -> None:
    probe = Probe(small_model, None, Budget(evaluations=24))
    rounded, exact = probe.logits(pictures), probe.exact_logits(pictures)
    assert probe.outcome.evaluations == 24
    assert exact.dtype == np.float64
    assert 0 < np.abs(exact - rounded).max() < 1e-4
    assert next(small_model.parameters()).dtype.itemsize == 4, "the model itself stays in single precision"
    with pytest.raises(BudgetSpent):
        probe.exact_logits(pictures[:1])


def test_class_gradients_differ_by_the_gradient_of_the_gap(small_model: nn.Module, pictures: np.ndarray) -> None:
    probe = Probe(small_model, None, Budget())
    logits, (first, second), effect = probe.gap_gradient(pictures[1])
    before = probe.outcome.evaluations
    again, gradients = probe.class_gradients(pictures[1], [first, second])
    assert probe.outcome.evaluations - before == 5
    assert np.array_equal(again, logits)
    assert top_two(again) == (first, second)
    assert gradients.shape == (2, 32, 32, 3)
    assert np.abs(gradients[0] - gradients[1] - effect).max() < 1e-5 * np.abs(effect).max()
