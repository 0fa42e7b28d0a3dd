"""All stress problems by all optimizers, in a folder in which an interrupted suite goes on where it stopped.

The folder's ``rows.jsonl`` holds one line a trial; a trial whose (problem, optimizer, learning rate, seed) is there is
not run again.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.auto import tqdm

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import optimizer_comparison, trial
from chimera_lib.ternary.experiments.problems import PROBLEMS
from chimera_lib.ternary.experiments.rows import Rows
from chimera_lib.ternary.experiments.trial import BASELINE, RAISED, Task, Trial
from chimera_lib.ternary.optimizers import LEARNING_RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from chimera_lib.ternary.experiments.optimizer_comparison import Row
    from chimera_lib.ternary.experiments.tuning import Runner

__all__ = ["SHARED", "Keeping", "matched", "shared", "tuned"]

SHARED: tuple[str, ...] = (  # of the tables at one learning rate: AdamW, and all that are meant for AdamW's
    *("adamw", RAISED, "chimera21", "chimera21_neutral", "chimera21_mean", "chimera21_previous"),
    *("chimera21_cross", "chimera21_freeze", "chimera21_int8", "chimera21_int8_published"),
)


class Key(NamedTuple):
    """What tells a trial of a folder from the others."""

    problem: str
    optimizer: str
    lr: float
    seed: int


def _as_row(done: Trial) -> dict[str, Any]:
    """A trial as JSON can say it: null for a loss that is infinite and a time that is not known."""
    numbers = dataclasses.asdict(done)
    return {name: None if value is None or not math.isfinite(value) else value for name, value in numbers.items()}


def _trial(row: Mapping[str, Any]) -> Trial:
    missing = {"loss": math.inf, "step_ms": math.nan}
    numbers: dict[str, Any] = {field.name: row[field.name] for field in dataclasses.fields(Trial)}
    return Trial(**{**numbers, **{name: value for name, value in missing.items() if numbers[name] is None}})


class Keeping:
    """A runner that keeps its trials in a folder and takes from there those it has.

    Args:
        folder: made where missing, for its ``rows.jsonl``; None keeps trials in memory only.
        steps, sparsity, noise_scale: what all tasks of the folder have in common.
        runner: what runs a trial that is not there.

    Raises:
        ChimeraError: the folder holds trials of other settings, or something else.
    """

    def __init__(
        self, folder: Path | None, *, steps: int, sparsity: float, noise_scale: float, runner: Runner = trial.run
    ) -> None:
        self.settings = {"steps": steps, "sparsity": sparsity, "noise_scale": noise_scale}
        self.runner = runner
        self.rows = None if folder is None else Rows(folder / "rows.jsonl", self.settings)
        kept = self.rows.rows if self.rows else []
        self.trials: dict[Key, Trial] = {}
        for row in kept:
            try:
                self.trials[Key(*(row[name] for name in Key._fields))] = _trial(row)
            except (KeyError, TypeError) as error:
                raise ChimeraError(f"{folder}/rows.jsonl: {row} is no trial of this suite; delete that line") from error

    def __call__(self, task: Task, name: str, lr: float, seed: int) -> Trial:
        """The kept trial, or a new one that is kept."""
        key = Key(task.problem, name, lr, seed)
        if key not in self.trials:
            done = self.runner(task, name, lr, seed)
            if self.rows:
                self.rows.add([{**key._asdict(), **_as_row(done)}])
            self.trials[key] = done
        return self.trials[key]

    def task(self, problem: str) -> Task:
        """The task of a problem, with the settings of this folder."""
        return Task(problem, **self.settings)  # type: ignore[arg-type]


def tuned(
    keeping: Keeping,
    *,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int],
    problems: Iterable[str] = tuple(PROBLEMS),
    optimizers: Iterable[str] | None = None,
    progress: bool = False,
) -> list[Row]:
    """Every problem by every optimizer, each at its own tuned learning rate.

    Returns:
        Rows by problem, then optimizer; the p values are corrected over all of them.
    """
    names = optimizer_comparison.contenders(optimizers)
    rows: list[Row] = []
    wanted = list(problems)
    tunings = (len(names) - (RAISED in names)) * len(LEARNING_RATES) * len(tuning_seeds)
    with tqdm(total=len(wanted) * (tunings + len(names) * len(seeds)), desc="trials", disable=not progress) as bar:

        def runner(task: Task, name: str, lr: float, seed: int) -> Trial:
            done = keeping(task, name, lr, seed)
            bar.update()
            return done

        for problem in wanted:
            rows += optimizer_comparison.measure(
                keeping.task(problem), names, seeds=seeds, tuning_seeds=tuning_seeds, runner=runner
            )
    return optimizer_comparison.with_holm(rows)


def shared(
    keeping: Keeping,
    *,
    learning_rate: float,
    seeds: Sequence[int],
    problems: Iterable[str] = tuple(PROBLEMS),
    optimizers: Iterable[str] = SHARED,
) -> list[Row]:
    """The same at one learning rate for all, as the published comparison has it; by default AdamW and the gates."""
    rows: list[Row] = []
    for problem in problems:
        task = keeping.task(problem)
        rows += optimizer_comparison.measure(task, optimizers, seeds=seeds, learning_rate=learning_rate, runner=keeping)
    return optimizer_comparison.with_holm(rows)


def matched(
    keeping: Keeping, rows: Sequence[Row], *, seeds: Sequence[int], optimizers: Iterable[str] = SHARED
) -> list[Row]:
    """The gates at the learning rate that AdamW was tuned to, problem by problem: the gate's own effect.

    Tuned each for itself, two optimizers may be given neighbours on the grid by the luck of the tuning seeds, which
    makes more of a difference than a gate does. Trials that tuning's own choice has had run are not run again.

    Args:
        keeping: the folder of the suite.
        rows: of ``tuned``.
        seeds: to report.
        optimizers: AdamW and the gates by default.
    """
    found: list[Row] = []
    for row in rows:
        if row.optimizer == BASELINE:
            found += optimizer_comparison.measure(
                row.task, optimizers, seeds=seeds, learning_rate=row.learning_rate, runner=keeping
            )
    return optimizer_comparison.with_holm(found)
