"""Defences: what each system answers, the attacks that know them, and how a trial is kept and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from chimera_lib import recorded
from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images import campaign, defences
from chimera_lib.images.defences import DEFENCES, Defence, Defended, build, compare, report, trial
from chimera_lib.images.defences.abstention import Abstention, AbstentionEdge
from chimera_lib.images.defences.defence import ABSTAINS, Verdict
from chimera_lib.images.defences.noise import FixedNoise, FreshNoise
from chimera_lib.images.defences.rounding import STEP, Rounding, distance, flipping_sets
from chimera_lib.images.defences.secret_key import Key
from chimera_lib.images.defences.surrogates import Averaged, Exact, Lowered
from chimera_lib.images.defences.vote import Vote
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget, as_input

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.network import Network

PAIR = ("openblas", "blis")
SIDES = (("openblas",), ("blis",))
BUDGET = Budget(evaluations=800, oracle_calls=60)


def one(rows: list[list[float]]) -> np.ndarray:
    """Logits of one backend a row: (backends, 1 image, 1 copy, classes)."""
    return np.array(rows, np.float32)[:, None, None, :]


def test_a_verdict_tells_conflict_from_half_an_answer() -> None:
    logits = np.array([[[2.0, 1], [2, 1], [2, 1], [2, 1]], [[1, 2], [2, 1], [1, 2], [2, 1]]])
    abstains = np.array([[False, False, True, True], [False, False, False, True]])
    verdict = Verdict(("a", "b"), logits, abstains)
    assert verdict.differ.tolist() == [True, False, False, False] == verdict.conflict.tolist()
    assert verdict.half.tolist() == [False, False, True, False]
    assert Verdict(("a", "b"), logits, abstains, edge=True).conflict.tolist() == verdict.half.tolist()
    assert verdict.predictions.tolist() == [[0, 0, ABSTAINS, ABSTAINS], [1, 0, 1, ABSTAINS]]


def test_no_defence_is_the_backend_itself(small_network: Network, pictures: np.ndarray, oracle: Any) -> None:
    with Defended(Defence(SIDES), small_network) as system:
        verdict = system(pictures)
        np.testing.assert_array_equal(verdict.logits, oracle(pictures).logits)
        assert system.names == PAIR and system.calls == len(pictures) and system.cpu_seconds > 0


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ([[3, 2, 0], [2, 3, 0], [3, 2, 1]], 0),
        ([[3, 2, 0], [2, 3, 0], [2.1, 2.2, 1]], 1),
        ([[3, 2, 0], [0, 2, 3], [0, 2.5, 3]], 2),
        ([[3, 2, 0], [2, 3, 0], [2, 0, 3]], None),
        ([[3, 0, 0], [3, 0, 0], [0, 9, 0]], 0),
    ],
)
def test_the_vote_is_that_of_two_of_three(rows: list[list[float]], answer: int | None) -> None:
    said = Vote().answer(one(rows))
    assert said.abstains[0] == (answer is None)
    if answer is not None:
        assert said.logits[0].argmax() == answer


def test_trios_share_no_library() -> None:
    first, second = Vote().sides
    assert len(set(first) | set(second)) == 6


def test_abstention_by_its_threshold() -> None:
    defence = Abstention(SIDES, 0.5)
    logits = np.array([[1.0, 1.4, 0], [1, 1.6, 0], [2, 1, 0]], np.float32)[None, :, None]
    assert defence.answer(logits).abstains.tolist() == [True, False, False]
    edge = AbstentionEdge(SIDES, 0.5).answer(logits)
    assert (edge.logits.argmax(1) != logits[0, :, 0].argmax(1)).tolist() == [True, False, False]
    np.testing.assert_allclose(Lowered(torch.nn.Identity(), 0.5)(torch.tensor([[1.0, 1.4, 0]])), [[1.0, 0.9, 0]])


def test_rounding_and_where_it_flips() -> None:
    answer = Rounding(SIDES).answer(np.array([1.2341, 1.2344, 0], np.float32)[None, None, None])
    assert answer.logits[0].argmax() == 0, "a tie goes to the lower class"
    rng = np.random.default_rng(0)
    low, high = rng.uniform(-0.003, 0.003, (2, 4000))

    def wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.round(b, 3) > np.round(a, 3)

    far = distance(low, high)
    near = np.isfinite(far) & (far < 0.2 * STEP)
    assert near.sum() > 50
    move = 1.01 * far[near]
    a, b, before = low[near], high[near], wins(low[near], high[near])
    flips = [wins(a + da * move, b + db * move) != before for da, db in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    assert np.any(flips, axis=0).all(), "so far from a flip, a little more is one"
    sets = flipping_sets(rng.normal(0, 0.003, (20, 2)), 1.0, 1.01)
    assert len(sets) and all(len(set(row)) == 4 for row in sets.tolist())


def test_noise_is_averaged_in_a_written_order(small_network: Network, small_model: nn.Module) -> None:
    shape = (32, 32, 3)
    picture = np.full((2, *shape), 90, np.uint8)
    defence = FixedNoise(SIDES, shape)
    seen = defence.inputs(picture, np.random.default_rng(0))
    assert seen.shape == (2 * defence.copies, *shape) and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[: defence.copies], seen[defence.copies :])
    logits = np.random.default_rng(1).standard_normal((1, 2, defence.copies, 5)).astype(np.float32)
    np.testing.assert_allclose(defence.answer(logits).logits, logits[0].mean(1), rtol=1e-5, atol=1e-7)
    with Defended(defence, small_network) as system, torch.no_grad():
        mine = defence.surrogate(small_model, system)(as_input(picture)).numpy()
        np.testing.assert_allclose(system.answers(picture, 0).logits, mine, atol=1e-4)


def test_fresh_draws_differ_between_the_systems(small_network: Network, pictures: np.ndarray) -> None:
    with Defended(FreshNoise((SIDES[0], SIDES[0]), (32, 32, 3)), small_network) as system:
        first, second = system(pictures), system(pictures)
        assert system.names == ("openblas", "openblas again")
    assert np.abs(first.logits[0] - first.logits[1]).max() > 1e-3
    assert not np.array_equal(first.logits, second.logits)


def test_a_key_does_the_same_to_pixels_and_to_tensors(pictures: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    keys = [Key.draw(rng, (32, 32, 3)) for _ in range(6)]
    assert {key.mirror for key in keys} == {True, False}
    for key in keys:
        done = key.apply(pictures)
        assert done.dtype == np.uint8 and not np.array_equal(done, pictures)
        np.testing.assert_allclose(key.view(as_input(pictures)), as_input(done), atol=1e-6)


def test_exact_has_the_values_of_the_real_and_the_gradient_of_the_surrogate(pictures: np.ndarray) -> None:
    double = Averaged(torch.nn.Flatten(), [lambda x: x, lambda x: 3 * x])
    model = Exact(double, lambda images: images.reshape(len(images), -1).astype(np.float32))
    x = as_input(pictures[:2])
    np.testing.assert_array_equal(model(x), pictures[:2].reshape(2, -1))
    x.requires_grad_()
    z = model(x)
    np.testing.assert_allclose(z.detach(), pictures[:2].reshape(2, -1), rtol=1e-6)
    (gradient,) = torch.autograd.grad(z[0, 7], x)
    assert gradient.sum() == 2.0 and not gradient[1].any()


@pytest.mark.parametrize("name", [name for name in DEFENCES if name != "vote"])
def test_a_defended_system_still_recognises_and_the_attack_keeps_its_budget(
    name: str, small_model: nn.Module, small_network: Network, pictures: np.ndarray
) -> None:
    defence = build(name, PAIR, small_network, lambda: pictures)
    budget = Budget(evaluations=120, oracle_calls=4)
    with Defended(defence, small_network) as system:
        answer = system.answers(pictures, 0)
        with torch.no_grad():
            plain = small_model(as_input(pictures)).numpy()
        if name.startswith(("noise", "secret")):  # what it sees is another picture, of the same things
            assert np.corrcoef(answer.logits.ravel(), plain.ravel())[0, 1] > 0.8
        else:
            np.testing.assert_allclose(answer.logits, plain, rtol=0, atol=1e-3)
        calls = system.calls
        outcome = defence.attack(small_model, pictures[0], system, budget, 0)
        assert outcome.evaluations <= 120 and outcome.oracle_calls <= 4 and system.calls - calls <= 4
        if outcome.chimera is not None and not defence.fresh:
            assert system(outcome.chimera[None]).conflict[0]


def test_who_knows_the_edge_finds_it(small_model: nn.Module, small_network: Network, pictures: np.ndarray) -> None:
    """Abstention leaves half answers, and rounding leaves conflicts that the plain attack's images are not."""
    for name in ("abstention-edge", "rounding"):
        defence = build(name, PAIR, small_network, lambda: pictures)
        with Defended(defence, small_network) as system:
            outcomes = [defence.attack(small_model, picture, system, BUDGET, 1) for picture in pictures[:4]]
            found = [outcome.chimera for outcome in outcomes if outcome.chimera is not None]
            assert found, name
            verdict = system(np.stack(found))
        assert (verdict.half if defence.edge else verdict.differ).all()
        if name == "abstention-edge":
            assert not verdict.differ.any()


def test_float64_products_and_a_fixed_order_give_the_same_bits(
    small_model: nn.Module, small_network: Network, pictures: np.ndarray, oracle: Any
) -> None:
    outcome = lattice.search(small_model, pictures[0], oracle, Budget(), 0)
    assert outcome.chimera is not None
    images = np.stack([*pictures[:3], outcome.chimera])
    for name in ("float64-products", "fixed-order"):
        with Defended(build(name, PAIR, small_network, lambda: pictures), small_network) as system:
            verdict = system(images)
        assert not verdict.differ.any()
        assert np.abs(verdict.logits[0] - verdict.logits[1]).max() < 1e-6


@pytest.fixture
def setting(tmp_path: Path, pictures: np.ndarray) -> trial.Setting:
    return trial.Setting(pictures, np.arange(12) % 10, 3, 12, BUDGET, 0, tmp_path / "out")


def test_a_table_of_defences(
    setting: trial.Setting, small_model: nn.Module, small_network: Network, pictures: np.ndarray, tmp_path: Path
) -> None:
    """Measured, verified, kept, recorded; a second run takes everything from the folder; other settings are refused."""

    def run(**changes: Any) -> dict[str, trial.Trial]:
        changed = replace(setting, **changes)
        return compare.compare(
            small_model, small_network, ["abstention"], changed, pair=PAIR, noise_on=pictures, report=lines.append
        )

    lines: list[str] = []
    trials = run()
    assert list(trials) == ["none", "abstention"]
    bare, cautious = trials["none"], trials["abstention"]
    assert bare["found"] >= 2 and bare["verified"] == bare["found"]
    assert bare["transferred_rate"] == bare["rate"] and cautious["transferred_rate"] == 0 == cautious["found"]
    assert bare["coverage"] == 1 and cautious["settings"]["threshold"] > 0
    assert cautious["slowdown"] > 0 and bare["rate_ci"][0] < bare["rate"]
    kept = (setting.output / "none" / "rows.jsonl").read_bytes()
    again = run()
    assert (setting.output / "none" / "rows.jsonl").read_bytes() == kept
    assert report.as_rows(again) == report.as_rows(trials)
    text = report.as_text(trials)
    assert "abstain within the measured noise" in text and "100.0%" in text
    report.write_record(tmp_path / "record.json", trials)
    metrics = recorded.read(tmp_path / "record.json")["metrics"]
    assert metrics["none_rate"]["n"] == 3 and metrics["abstention_coverage"]["n"] == 12
    assert json.loads((setting.output / "none" / "clean.json").read_text())["images"] == 12
    assert report.figure(trials).axes[0].get_yticklabels()[0].get_text() == "no defence"
    with pytest.raises(ChimeraError, match=r"none holds a search of other settings; name another --output"):
        run(seed=1)


def test_a_trial_of_other_images_is_tried_again(
    setting: trial.Setting, small_model: nn.Module, small_network: Network, pictures: np.ndarray
) -> None:
    """What an attack found from other images, and accuracy by other labels, are nothing to go on with."""

    def run(**changes: Any) -> trial.Trial:
        changed = replace(setting, starts=2, **changes)
        return trial.run(small_model, small_network, Defence(SIDES), changed, [], lambda line: None)

    folder = setting.output / "none"
    run()
    other = pictures[::-1].copy()
    run(images=other)
    for start, (row, image) in campaign.load(folder).items():
        assert row.image == campaign.digest(other[start])
        assert image is None or row.linf == np.abs(image.astype(int) - other[start]).max()
    with Defended(Defence(SIDES), small_network) as system:
        right = system.answers(other, 0).logits.argmax(-1)
    assert run(images=other, labels=right)["accuracy"] == 1
    assert run(images=other, labels=(right + 1) % 10)["accuracy"] == 0


def test_time_is_measured_long_enough() -> None:
    """At 0.04 s a call, 13 calls fill half a second."""
    calls: list[int] = []
    assert trial.each(lambda: calls.append(1), lambda: round(len(calls) * 0.04, 2)) == pytest.approx(0.04)
    assert len(calls) == 13


def test_all_names_are_checked_before_the_first_trial(
    setting: trial.Setting, small_model: nn.Module, small_network: Network, pictures: np.ndarray
) -> None:
    with pytest.raises(UnknownName, match="unknown defence 'nosuch'"):
        compare.compare(small_model, small_network, ["none", "nosuch"], setting, pair=PAIR, noise_on=pictures)
    assert not setting.output.exists(), "nothing was tried"


def test_a_wrong_name_is_refused(small_network: Network) -> None:
    with pytest.raises(UnknownName, match=r"unknown defence 'votes' \(did you mean 'vote'\?\)"):
        build("votes", PAIR, small_network, lambda: np.zeros(0))
    assert set(defences.DEFENCES) >= {"none", "vote", "fixed-order", "secret-key"}


def test_what_was_measured_of_no_defence_has_no_column():
    one = {"title": "none", "n": 5, "rate": 1.0, "verified_rate": 1.0, "transferred_rate": 1.0}
    assert "coverage" not in report.as_rows({"none": one})[0]
    rows = report.as_rows({"none": one, "vote": {**one, "coverage": 0.9}})
    assert [row["coverage"] for row in rows] == [None, 0.9]
    assert "clean accuracy" not in rows[0]
