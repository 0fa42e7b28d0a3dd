"""The published runs, re-analysed: the changes of rank that the original project lists, signed, with intervals.

`chimera_lib/prion/published_runs.csv` holds the change of rank of every run that the project's summaries are made of,
copied from the tables ``aggregate_summary_*.csv`` of https://github.com/ForestR/NeuroEntropy (Apache-2.0): priority 1
(70m to 410m, and 1b at a learning rate of 2e-4) and priority 2 at commit d12be8d5dcf3, priority 3 at cf6cdb007aa0,
priority 4 and 1b at 1e-4 at 978955c75d94. Treatments, optimizers, tuning and learning rates are those of its code.
"""

from __future__ import annotations

import csv
import importlib.resources
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import as_published, confounds, describe, naming
from chimera_lib.prion.analysis import groups as grouping
from chimera_lib.prion.analysis.runs import RANK_REDUCTION, RunResult, values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADLINE_RATE = 2e-4  # of the 1b runs behind the headline of 26.5 %; a later summary has them at 1e-4


def runs(priority: int) -> list[RunResult]:
    """The runs of a priority, 1 to 4; of priority 1 those of 1b at both learning rates, told apart by `learning_rate`.

    Raises:
        ChimeraError: another priority.
    """
    if priority not in grouping.PRIORITIES:
        raise ChimeraError(f"priority {priority}: expected one of {', '.join(map(str, grouping.PRIORITIES))}")
    table = importlib.resources.files("chimera_lib.prion").joinpath("published_runs.csv").read_text(encoding="utf-8")
    return [_run(row) for row in csv.DictReader(table.splitlines()) if int(row["priority"]) == priority]


def groups(priority: int, *, rate: float | None = None) -> dict[str, list[RunResult]]:
    """The runs of a priority by group, in the order of the source.

    Args:
        priority: 1 to 4.
        rate: of priority 1, the learning rate of 1b: 1e-4, or `HEADLINE_RATE`, the default.
    """
    chosen = runs(priority)
    if priority == 1:
        chosen = [run for run in chosen if run.model != "1b" or run.learning_rate == (rate or HEADLINE_RATE)]
    return grouping.split(chosen, priority)


def sizes() -> list[dict[str, Any]]:
    """The scaling law again, a row a model and learning rate.

    Returns:
        model, learning_rate, n, mean (signed, per cent of the rank lost), low and high (95 %, Student), mean_absolute
        (the published mean), rank_rose (in how many runs).
    """
    rows = []
    for (model, rate), members in _by_rate().items():
        found = describe.numbers(values(members, RANK_REDUCTION))
        low, high = found["interval"]
        row = {"model": model, "learning_rate": rate, "n": found["n"], "mean": found["mean"], "low": low, "high": high}
        rows.append({**row, "mean_absolute": found["mean_absolute"], "rank_rose": found["below_zero"]})
    return rows


def comparisons() -> list[dict[str, Any]]:
    """The tests of priorities 2 to 4 again, a row each.

    Returns:
        priority, comparison, n (runs), test, p_signed (the test as published: it pools the variances of signed values),
        p_absolute (the same of the magnitudes whose means are the headline), p_holm of the smallest p of Welch's pairs,
        confounds (sentences).
    """
    from chimera_lib.prion.analysis import judged

    rows = []
    for number in (2, 3, 4):
        members = groups(number)
        families = judged.judge(number, members, RANK_REDUCTION, judged.Margins())
        corrected = [one.p_holm for one in families["differences"] if one.p_holm is not None]
        rows.append(
            {
                "priority": number,
                "comparison": " / ".join(members),
                "n": sum(len(one) for one in members.values()),
                "test": "t" if number == 3 else "ANOVA",
                "p_signed": _p(number, members),
                "p_absolute": _p(number, {name: _magnitudes(one) for name, one in members.items()}),
                "p_holm": min(corrected),
                "confounds": "; ".join(confounds.warnings(number, members)),
            }
        )
    return rows


def _by_rate() -> dict[tuple[str, float | None], list[RunResult]]:
    found: dict[tuple[str, float | None], list[RunResult]] = {}
    for run in runs(1):
        found.setdefault((run.model, run.learning_rate), []).append(run)
    return found


def _p(priority: int, members: Mapping[str, Sequence[RunResult]]) -> float | None:
    tests = as_published.tests(priority, members)
    found = tests["statistical_test"] if "statistical_test" in tests else tests["statistical_tests"]["anova"]
    p: float | None = found["p_value"]
    return p


def _magnitudes(members: Sequence[RunResult]) -> list[RunResult]:
    from dataclasses import replace

    return [replace(run, metrics={RANK_REDUCTION: abs(run.metrics[RANK_REDUCTION])}) for run in members]


def _run(row: Mapping[str, str]) -> RunResult:
    treatment, precision = row["treatment"], row["precision"]
    return RunResult(
        model=row["model"],
        run=int(row["run"]),
        precision=precision,
        treatment=treatment,
        optimizer=row["optimizer"],
        method="adafactor" if row["optimizer"] == "adamw" else row["optimizer"],
        tuning="lora" if precision in ("8bit", "4bit") else "full",
        parameters=naming.parameters(row["model"]),
        learning_rate=float(row["learning_rate"]),
        seed=42 + int(row["run"]),
        metrics={RANK_REDUCTION: float(row["rank_reduction_pct"])},
        repeats=treatment == naming.TREATMENT,
        published=True,
        double_shift=True,
    )
