"""All stress problems by all optimizers, in a folder in which an interrupted suite goes on where it stopped.

``settings.json`` says what every trial of the folder has in common, ``rows.jsonl`` holds one line a trial; a trial
whose (problem, optimizer, learning rate, seed) is there is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import optimizer_comparison, trial
from chimera_lib.ternary.experiments.problems import PROBLEMS
from chimera_lib.ternary.experiments.trial import RAISED, Task, Trial
from chimera_lib.ternary.optimizers import LEARNING_RATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from chimera_lib.ternary.experiments.optimizer_comparison import Row
    from chimera_lib.ternary.experiments.tuning import Runner

__all__ = ["SHARED", "Keeping", "shared", "tuned"]

SHARED: tuple[str, ...] = (  # of the second table: AdamW, and all that AdamW's learning rate is meant for
    *("adamw", RAISED, "chimera21", "chimera21_neutral", "chimera21_mean", "chimera21_previous"),
    *("chimera21_cross", "chimera21_freeze", "chimera21_int8", "chimera21_int8_published"),
)


class Keeping:
    """A runner that keeps its trials in a folder and takes from there those it has.

    Args:
        folder: made where missing; None keeps trials in memory only.
        steps, sparsity, noise_scale: what all tasks of the folder have in common.
        runner: what runs a trial that is not there.

    Raises:
        ChimeraError: the folder holds trials of other settings, or cannot be written.
    """

    def __init__(
        self, folder: Path | None, *, steps: int, sparsity: float, noise_scale: float, runner: Runner = trial.run
    ) -> None:
        self.settings = {"steps": steps, "sparsity": sparsity, "noise_scale": noise_scale}
        self.runner = runner
        self.path: Path | None = None
        self.trials: dict[tuple[str, str, float, int], Trial] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._begin(folder)
            except OSError as error:
                raise ChimeraError(f"{folder}: {error.strerror}; name a folder that can be written") from error

    def _begin(self, folder: Path) -> None:
        head = folder / "settings.json"
        self.path = folder / "rows.jsonl"
        if head.exists():
            try:
                before = json.loads(head.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ChimeraError(f"{head} is no JSON ({error}): name another folder, or delete this one") from error
            if before != self.settings:
                raise ChimeraError(
                    f"{folder} holds trials of {before}, not of {self.settings}: name another folder, or delete it"
                )
            self._read()
        elif self.path.exists():
            raise ChimeraError(f"{folder} holds rows.jsonl without settings.json: name another folder, or delete it")
        else:
            partial = head.with_name(f".settings.{os.getpid()}.partial")
            partial.write_text(json.dumps(self.settings) + "\n", encoding="utf-8")
            partial.replace(head)

    def _read(self) -> None:
        """Take the kept trials; what a killed process left of a last line is cut off."""
        assert self.path is not None
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("rb+") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                key = (row.pop("problem"), row.pop("optimizer"), row.pop("lr"), row.pop("seed"))
                missing = {"loss": math.inf, "step_ms": math.nan}  # JSON has neither
                self.trials[key] = Trial(**{**row, **{name: missing[name] for name in missing if row[name] is None}})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ChimeraError(f"{self.path}, line {number}: no trial of this suite; delete that line") from error

    def __call__(self, task: Task, name: str, lr: float, seed: int) -> Trial:
        """The kept trial, or a new one that is kept."""
        key = (task.problem, name, lr, seed)
        if key not in self.trials:
            done = self.trials[key] = self.runner(task, name, lr, seed)
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(_as_line(key, done), allow_nan=False) + "\n")
        return self.trials[key]

    def task(self, problem: str) -> Task:
        """The task of a problem, with the settings of this folder."""
        return Task(problem, **self.settings)  # type: ignore[arg-type]


def _as_line(key: tuple[str, str, float, int], done: Trial) -> dict[str, Any]:
    named = dict(zip(("problem", "optimizer", "lr", "seed"), key, strict=True))
    numbers = {name: value if _sayable(value) else None for name, value in dataclasses.asdict(done).items()}
    return {**named, **numbers}


def _sayable(value: float | None) -> bool:
    return value is None or math.isfinite(value)


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
            rows += optimizer_comparison.compare(
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
        rows += optimizer_comparison.compare(task, optimizers, seeds=seeds, learning_rate=learning_rate, runner=keeping)
    return optimizer_comparison.with_holm(rows)
