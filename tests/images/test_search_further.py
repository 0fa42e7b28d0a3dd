"""What is special to each of the strategies that the sources leave to future work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search import adaptive_noise, ensemble_boundary, exploit_known, gradient_free, strategy
from chimera_lib.images.search import hardware_in_the_loop as hardware
from chimera_lib.images.search.lattice import NOISE
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Probe, gaps
from chimera_lib.images.search.shortlist import AT_END, Shortlist

FINDERS = ["adaptive_noise", "ensemble_boundary", "gradient_free", "hardware_in_the_loop"]


@dataclass
class Said:
    """A verdict that a test makes up."""

    logits: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        return self.logits.argmax(-1)

    @property
    def conflict(self) -> np.ndarray:
        return (self.predictions != self.predictions[0]).any(0)


class Shifted:
    """Two backends that agree to the last bit: the model, but with another bias on one class."""

    def __init__(self, model, name: int, shift: float) -> None:
        self.model, self.name, self.shift = model, name, shift

    def __call__(self, images) -> Said:
        logits = Probe(self.model, None, Budget()).logits(images)
        logits[:, self.name] += self.shift
        return Said(np.stack([logits, logits]))


class Silent:
    """Backends that never conflict, and a count of the images shown to them."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, images) -> Said:
        self.seen += list(images)
        return Said(np.zeros((2, len(images), 10)))


@pytest.mark.parametrize("name", FINDERS)
def test_finds_chimeras_that_fresh_processes_confirm(name, small_model, small_network, oracle, pictures):
    budget = Budget(evaluations=3000, oracle_calls=100)
    outcomes = [strategy(name)(small_model, image, oracle, budget, seed) for seed, image in enumerate(pictures[:4])]
    found = [outcome.chimera for outcome in outcomes if outcome.chimera is not None]
    assert len(found) >= 2
    with Oracle(small_network, ("openblas", "blis")) as fresh:
        assert fresh(np.stack(found)).conflict.all()


def test_adaptive_noise_is_of_the_size_of_the_gap(pictures):
    rng = np.random.default_rng(0)
    effect = rng.normal(0, 1e-3, pictures[0].shape)
    middle = np.full_like(pictures[0], 128)
    for target in (1e-2, 1e-3, 1e-4):
        draws = np.concatenate([adaptive_noise.noisy(middle, effect, target, rng) for _ in range(60)])
        change = draws.astype(int) - middle
        assert np.std((change * effect).sum(axis=(1, 2, 3))) == pytest.approx(target, rel=0.35)
        assert np.abs(change).max() == 1
        assert (change != 0).any(axis=(1, 2, 3)).all(), "a copy that is the point itself is an evaluation wasted"


def test_adaptive_noise_moves_weaker_sub_pixels_as_the_gap_closes(pictures):
    rng = np.random.default_rng(1)
    effect = rng.normal(0, 1e-3, pictures[0].shape)
    middle = np.full_like(pictures[0], 128)
    moved = [
        np.median(np.abs(effect)[(adaptive_noise.noisy(middle, effect, target, rng) != middle).any(axis=0)])
        for target in (1e-2, 1e-4)
    ]
    assert moved[1] < moved[0] / 5


def test_adaptive_noise_far_away_falls_towards_the_boundary(pictures):
    effect = np.random.default_rng(2).normal(0, 1e-3, pictures[0].shape)
    middle = np.full_like(pictures[0], 128)
    change = adaptive_noise.noisy(middle, effect, 1.0, np.random.default_rng(3)).astype(int) - middle
    fallen = (change * effect).sum(axis=(1, 2, 3))
    assert (change * effect <= 0).all()
    assert fallen == pytest.approx(-1.0, rel=0.3)


def test_ensemble_has_a_member_for_each_rival_and_the_triple_point(small_model, pictures):
    probe = Probe(small_model, None, Budget())
    order = np.argsort(-Probe(small_model, None, Budget()).logits(pictures[:1])[0])
    members = ensemble_boundary.ensemble(probe, pictures[0])
    assert [member.lifted for member in members] == [*order[1:4], None]
    logits = torch.tensor([5.0, 1.0, 4.0, 2.0])
    assert [float(ensemble_boundary.gap_wanted(logits, lifted)) for lifted in (2, 3, 0, None)] == [1, 3, -1, 3]


def test_ensemble_step_cancels_the_gap_by_weak_sub_pixels(pictures):
    rng = np.random.default_rng(4)
    effect = rng.normal(0, 1e-3, pictures[0].shape)
    for gap in (1e-2, 1e-4, -1e-4):
        step = ensemble_boundary.polyak(effect, gap)
        assert (step * effect).sum() == pytest.approx(-gap)
        assert np.abs(step[np.abs(effect) > 4 * max(abs(gap), 1e-4)]).sum() < 1e-3 * np.abs(step).sum()
    middle = np.full_like(pictures[0], 128)
    step = np.full(middle.shape, 0.3)
    rounded = np.stack([ensemble_boundary.dithered(middle, step, rng) for _ in range(5)])
    assert rounded.mean() == pytest.approx(128.3, abs=0.02)
    assert set(np.unique(rounded)) == {128, 129}


def test_gradient_free_takes_no_gradient_and_counts_every_image(small_model, pictures, monkeypatch):
    shown = 0

    def count(_module, inputs, _output) -> None:
        nonlocal shown
        assert not torch.is_grad_enabled()
        shown += len(inputs[0])

    monkeypatch.setattr(torch.autograd, "grad", None)
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (the generator that the package would seed)
    with small_model.register_forward_hook(count):
        outcome = gradient_free.search(small_model, pictures[0], Silent(), Budget(evaluations=400), 0)
    assert outcome.evaluations == shown > 300
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_gradient_free_evolves_orthogonal_patterns():
    patterns = gradient_free.cosines((32, 32, 3)).reshape(48, -1)
    products = patterns @ patterns.T
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-9
    assert np.abs(patterns).max() <= 1


def test_exploit_known_holds_chimeras_only(small_model, small_network, oracle, pictures):
    budget = Budget(evaluations=1200, oracle_calls=60)
    outcomes = [exploit_known.search(small_model, image, oracle, budget, 0) for image in pictures[:3]]
    every = [image for outcome in outcomes if outcome.chimera is not None for image in outcome.candidates]
    assert len({image.tobytes() for image in every}) == len(every)
    assert len(every) >= 8, "the first of each start, and their neighbours"
    with Oracle(small_network, ("openblas", "blis")) as fresh:
        assert fresh(np.stack(every)).conflict.all()


def test_exploit_known_without_a_first_chimera_is_the_lattice_walk(small_model, pictures):
    budget = Budget(evaluations=300, oracle_calls=20)
    outcome = exploit_known.search(small_model, pictures[0], Silent(), budget, 3)
    lattice = strategy("lattice")(small_model, pictures[0], Silent(), budget, 3)
    assert outcome.chimera is None
    assert outcome.path == lattice.path
    assert all(map(np.array_equal, outcome.candidates, lattice.candidates))


@pytest.mark.parametrize("shift", [0.5, -0.5])
def test_hardware_in_the_loop_closes_the_gap_of_the_backends_not_the_model(shift, small_model, pictures):
    model = Probe(small_model, None, Budget())
    second = int(np.argsort(-model.logits(pictures[1:2])[0])[1])
    backends = Shifted(small_model, second, shift)
    outcome = hardware.search(small_model, pictures[1], backends, Budget(oracle_calls=30), 0)
    best = outcome.candidates[:1]
    assert gaps(backends(np.stack(best)).logits[0])[0] < 1e-4
    assert gaps(model.logits(np.stack(best)))[0] == pytest.approx(0.5, abs=1e-3)


def test_hardware_in_the_loop_shows_every_point_to_the_backends(small_model, oracle, pictures):
    outcome = hardware.search(small_model, pictures[3], oracle, Budget(oracle_calls=15), 0)
    assert len(outcome.candidates) == outcome.oracle_calls
    alone = hardware.search(small_model, pictures[3], None, Budget(), 0)
    assert alone.oracle_calls == 0
    assert alone.chimera is None


@pytest.mark.parametrize(
    ("expected", "answered", "trust"), [(1, 1, 1.0), (1, 4, 0.5), (1, 0.25, 2.0), (1, -1, 0.5), (1, 1e-9, 4.0)]
)
def test_hardware_in_the_loop_trusts_the_answers(expected, answered, trust):
    assert hardware.believe(1.0, expected, answered) == pytest.approx(trust)


def test_shortlist_asks_once_and_only_near(small_model, pictures):
    silent = Silent()
    probe = Probe(small_model, silent, Budget(oracle_calls=20))
    shortlist = Shortlist(probe)
    for _ in range(2):
        assert not shortlist.offer(pictures[:3], np.array([1.0, NOISE / 2, NOISE / 4]))
    assert [image.tobytes() for image in silent.seen] == [pictures[2].tobytes(), pictures[1].tobytes()]
    shortlist.finish()
    assert len(silent.seen) == 2
    assert [image.tobytes() for image in probe.outcome.candidates] == [pictures[i].tobytes() for i in (2, 1, 0)]


def test_shortlist_asks_about_the_best_where_nothing_came_near(small_model, pictures):
    silent = Silent()
    shortlist = Shortlist(Probe(small_model, silent, Budget(oracle_calls=20)))
    shortlist.offer(pictures, np.linspace(2, 1, len(pictures)))
    shortlist.finish()
    assert [image.tobytes() for image in silent.seen] == [image.tobytes() for image in pictures[::-1][:AT_END]]


def test_shortlist_ends_with_the_oracle_calls_and_forgets_the_far(small_model, pictures):
    probe = Probe(small_model, Silent(), Budget(oracle_calls=2))
    shortlist = Shortlist(probe)
    with pytest.raises(BudgetSpent):
        shortlist.offer(pictures[:3], np.zeros(3))
    shortlist.offer(pictures, np.arange(1.0, 1 + len(pictures)))
    assert len(shortlist.images) <= 4
    assert len(shortlist.gaps) == len(pictures)
