"""The suite: all problems by all optimizers, and a folder that is gone on with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import stress_suite as suite
from chimera_lib.ternary.experiments.problems import PROBLEMS
from chimera_lib.ternary.experiments.trial import Task, Trial
from chimera_lib.ternary.optimizers import LEARNING_RATES

if TYPE_CHECKING:
    from pathlib import Path

SETTING = {"steps": 3, "sparsity": 0.7, "noise_scale": 1.0}


class Counting:
    """A runner that counts, and stops the process after a number of trials."""

    def __init__(self, last: float = math.inf) -> None:
        self.asked: list[tuple[str, str, float, int]] = []
        self.last = last

    def __call__(self, task: Task, name: str, lr: float, seed: int) -> Trial:
        if len(self.asked) >= self.last:
            raise KeyboardInterrupt
        self.asked.append((task.problem, name, lr, seed))
        if name == "lion" and lr == 1.0:
            return Trial(math.inf, math.nan, 8, 0, 97, diverged_at=2)
        return Trial(1 + abs(math.log(lr / 0.01)) + 0.01 * seed, 0.1, 8, 0, 97)


def run(folder: Path | None, runner: Counting) -> list[object]:
    keeping = suite.Keeping(folder, **SETTING, runner=runner)  # type: ignore[arg-type]
    rows = suite.tuned(keeping, seeds=[0, 1], tuning_seeds=[100], optimizers=["lion", "adamw_raised"])
    return [(row.task.problem, row.optimizer, row.learning_rate, row.losses, row.p_holm) for row in rows]


def test_every_problem_meets_every_optimizer_once() -> None:
    runner = Counting()
    rows = run(None, runner)
    assert [(row[0], row[1]) for row in rows] == [  # type: ignore[index]
        (problem, name) for problem in PROBLEMS for name in ("adamw", "lion", "adamw_raised")
    ]
    assert len(runner.asked) == len(set(runner.asked)) == 4 * (2 * len(LEARNING_RATES) + 3 * 2)


@pytest.mark.parametrize("last", [0, 1, 40])
def test_an_interrupted_suite_goes_on_without_repeating_a_trial(tmp_path: Path, last: int) -> None:
    whole = run(None, Counting())
    first = Counting(last)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, first)
    second = Counting()
    assert run(tmp_path, second) == whole
    assert len(first.asked) == last and not set(first.asked) & set(second.asked)
    third = Counting()
    assert run(tmp_path, third) == whole and third.asked == []


def test_a_line_that_a_kill_cut_short_is_run_again(tmp_path: Path) -> None:
    whole = run(tmp_path, Counting())
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-9])
    again = Counting()
    assert run(tmp_path, again) == whole and len(again.asked) == 1
    assert run(tmp_path, Counting(0)) == whole


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Counting())
    with pytest.raises(ChimeraError, match="steps 3, now 4"):
        suite.Keeping(tmp_path, **{**SETTING, "steps": 4})  # type: ignore[arg-type]
    (tmp_path / "rows.jsonl").write_text('{"setting": {"steps": 3, "sparsity": 0.7, "noise_scale": 1.0}}\n{"a": 1}\n')
    with pytest.raises(ChimeraError, match="no trial of this suite"):
        suite.Keeping(tmp_path, **SETTING)  # type: ignore[arg-type]


def test_kept_trials_come_back_as_they_were(tmp_path: Path) -> None:
    keeping = suite.Keeping(tmp_path, **SETTING)  # type: ignore[arg-type]
    done = keeping(keeping.task("saddle"), "chimera21_int8", 0.01, 3)
    again = suite.Keeping(tmp_path, **SETTING, runner=Counting(0))  # type: ignore[arg-type]
    assert again(again.task("saddle"), "chimera21_int8", 0.01, 3) == done
    gone = suite.Keeping(tmp_path / "b", **SETTING, runner=Counting())  # type: ignore[arg-type]
    lost = gone(gone.task("saddle"), "lion", 1.0, 0)
    back = suite.Keeping(tmp_path / "b", **SETTING, runner=Counting(0))  # type: ignore[arg-type]
    kept = back(back.task("saddle"), "lion", 1.0, 0)
    assert kept.loss == lost.loss == math.inf and math.isnan(kept.step_ms) and kept.diverged_at == 2


def test_the_second_table_has_one_rate_for_all() -> None:
    keeping = suite.Keeping(None, **SETTING)  # type: ignore[arg-type]
    rows = suite.shared(keeping, learning_rate=0.01, seeds=[0, 1], problems=["saddle"])
    assert [row.optimizer for row in rows] == list(suite.SHARED)
    assert {row.learning_rate for row in rows if row.optimizer != "adamw_raised"} == {0.01}
    assert all(row.tuned is None for row in rows)


def test_the_gates_are_matched_to_adamws_rate_without_running_a_trial_twice() -> None:
    runner = Counting()
    keeping = suite.Keeping(None, **SETTING, runner=runner)  # type: ignore[arg-type]
    rows = suite.tuned(keeping, seeds=[0, 1], tuning_seeds=[100], problems=["saddle"], optimizers=["chimera21"])
    before = len(runner.asked)
    found = suite.matched(keeping, rows, seeds=[0, 1], optimizers=["chimera21", "grams"])
    assert [row.optimizer for row in found] == ["adamw", "chimera21", "grams"]
    assert {row.learning_rate for row in found} == {0.01} == {rows[0].learning_rate}
    assert runner.asked[before:] == [("saddle", "grams", 0.01, 0), ("saddle", "grams", 0.01, 1)]
