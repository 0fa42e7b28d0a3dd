"""What a comparison of quantizers says: a row a cell, paired differences seed by seed, and metrics to record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from chimera_lib import stats
from chimera_lib.ternary.controllers import mean
from chimera_lib.ternary.experiments.quant_comparison import WITH_SCALE, Cell
from chimera_lib.ternary.resnet import BASELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.ternary.experiments.quant_comparison import Run

SHARES = ("zero_ratio", "plus_ratio", "minus_ratio", "effective_bits", "gamma", "alpha_used")


class Difference(NamedTuple):
    """``first`` minus ``second``: mean over seeds of the difference in test accuracy, and its 95 % interval.

    The interval is Student's, of the differences seed by seed; None for a single seed. It says what other initial
    weights and orders of the batches would change; the pictures are the same in all runs.
    """

    first: str
    second: str
    value: float
    n: int
    ci: stats.Interval | None

    @property
    def name(self) -> str:
        """Name of the metric."""
        return f"{self.first}_minus_{self.second}_accuracy"


def contrasts(chosen: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """The pairs worth comparing: each against what it changes one thing of.

    A mode against the baseline; chimera against strict_bitnet; the optimal scale against gamma; the straight-through
    activation against the published one. Pairs that lack a half are left out.
    """
    pairs = []
    for cell in chosen:
        others = []
        if cell.mode != BASELINE:
            others.append(Cell(BASELINE))
        if cell.mode == "chimera":
            others.append(replace(cell, mode="strict_bitnet"))
        if cell.mode in WITH_SCALE and cell.scale == "optimal":
            others.append(replace(cell, scale="gamma"))
        if cell.activation == "int8":
            others.append(replace(cell, activation="as_published"))
        pairs += [(cell, other) for other in others if other in chosen]
    return pairs


def differences(runs: Sequence[Run]) -> list[Difference]:
    """The paired differences of all ``contrasts`` among the runs' cells."""
    chosen = list(dict.fromkeys(run.cell for run in runs))
    accuracy = {(run.cell, run.seed): run.accuracy for run in runs}
    found = []
    for first, second in contrasts(chosen):
        seeds = [seed for cell, seed in accuracy if cell == first and (second, seed) in accuracy]
        values = [accuracy[first, seed] - accuracy[second, seed] for seed in seeds]
        found.append(Difference(first.name, second.name, mean(values), len(values), interval(values)))
    return found


def interval(values: Sequence[float]) -> stats.Interval | None:
    """Student's 95 % interval of the mean; None for fewer than two values."""
    return stats.student(values) if len(values) > 1 else None


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a cell: test accuracy with its interval over seeds, and the means of the weight statistics."""
    found = []
    for cell, own in by_cell(runs).items():
        accuracies = [run.accuracy for run in own]
        span = interval(accuracies)
        row: dict[str, Any] = {"cell": cell.name, "lr": own[0].learning_rate, "accuracy": mean(accuracies)}
        row["95 % interval"] = f"{span.low:.3f} to {span.high:.3f}" if span else None
        row["learning"] = f"{own[0].learning} of {own[0].parameters}"
        row |= {name.replace("_", " "): average(own, name) for name in SHARES}
        found.append(row)
    return found


def metrics(runs: Sequence[Run]) -> dict[str, Any]:
    """Metrics as `recorded.write` takes them: accuracies, statistics, learning parameters, paired differences."""
    found: dict[str, Any] = {}
    for cell, own in by_cell(runs).items():
        for name, values in (("accuracy", [r.accuracy for r in own]), ("loss", [r.loss for r in own])):
            found[f"{cell.name}_{name}"] = {"value": mean(values), "n": len(own), "ci": interval(values)}
        for name in SHARES:
            if average(own, name) is not None:
                values = [value for run in own if (value := run.statistics[name]) is not None]
                found[f"{cell.name}_{name}"] = {"value": mean(values), "n": len(own), "ci": interval(values)}
        found[f"{cell.name}_learning_rate"] = own[0].learning_rate
        found[f"{cell.name}_parameters_with_gradient"] = {"value": own[0].learning, "n": own[0].parameters}
    for one in differences(runs):
        found[one.name] = {"value": one.value, "n": one.n, "ci": one.ci}
    return found


def by_cell(runs: Sequence[Run]) -> dict[Cell, list[Run]]:
    """The runs of each cell, in the order in which they came."""
    found: dict[Cell, list[Run]] = {}
    for run in runs:
        found.setdefault(run.cell, []).append(run)
    return found


def average(runs: Sequence[Run], name: str) -> float | None:
    """Mean of a statistic over runs; None where the mode has none of that name."""
    values = [value for run in runs if (value := run.statistics[name]) is not None]
    return mean(values) if values else None


def as_text(runs: Sequence[Run]) -> str:
    """The rows and the differences for a terminal."""
    lines = [
        f"{'cell':38}{'lr':>8}{'accuracy':>10}{'':20}{'learning':>10}{'zeros':>8}{'bits':>7}{'gamma':>8}{'alpha':>7}"
    ]
    for row in rows(runs):
        span = f"({row['95 % interval']})" if row["95 % interval"] else ""
        numbers = [("zero ratio", 8), ("effective bits", 7), ("gamma", 8), ("alpha used", 7)]
        said = "".join(
            f"{row[name]:{width}.3f}" if row[name] is not None else f"{'-':>{width}}" for name, width in numbers
        )
        lines.append(f"{row['cell']:38}{row['lr']:8g}{row['accuracy']:10.3f} {span:19}{row['learning']:>10}{said}")
    lines += ["", "differences in test accuracy, seed by seed, with 95 % intervals:"]
    for one in differences(runs):
        span = f"({one.ci.low:+.3f} to {one.ci.high:+.3f})" if one.ci else "(no interval from one seed)"
        lines.append(f"{one.first} - {one.second}: {one.value:+.3f} {span}, n = {one.n}")
    lines.append("effective bits are the entropy of the shares of -1, 0 and 1, not storage")
    return "\n".join(lines)
