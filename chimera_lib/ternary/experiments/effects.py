"""What a factorial ablation says of each factor: effects with intervals, and shares of the variance."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import recorded, stats
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FACTORS = ("optimizer", "mode", "activation")
REFERENCES = {"optimizer": "adamw", "mode": "fp32_baseline", "activation": "none"}

Row = dict[str, Any]
Rates = dict[tuple[str, str], float]


def accuracy(row: Row) -> float:
    """A row's test accuracy; that of guessing among ten classes where the run diverged."""
    return 0.1 if row["diverged"] else float(row["accuracy"])


def levels(rows: Sequence[Row], factor: str) -> list[str]:
    """The levels of a factor, the reference first where it is among them."""
    found = list(dict.fromkeys(row[factor] for row in rows))
    return sorted(found, key=lambda level: level != REFERENCES[factor])


def by_seed(rows: Sequence[Row], **fixed: str) -> np.ndarray:
    """Mean accuracy, one number a seed, over all cells that agree with ``fixed``; shape (seeds,)."""
    chosen = [row for row in rows if all(row[name] == value for name, value in fixed.items())]
    seeds = sorted({row["seed"] for row in chosen})
    return np.array([np.mean([accuracy(row) for row in chosen if row["seed"] == seed]) for seed in seeds])


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean over seeds; None for a single seed."""
    return tuple(stats.student(values)) if len(values) > 1 else None  # type: ignore[return-value]


def cells(rows: Sequence[Row]) -> list[Row]:
    """A row for each cell of the design: mean accuracy over seeds, its interval, the learning rate."""
    found = []
    for names in itertools.product(*(levels(rows, factor) for factor in FACTORS)):
        fixed = dict(zip(FACTORS, names, strict=True))
        own = [row for row in rows if all(row[name] == value for name, value in fixed.items())]
        values = by_seed(rows, **fixed)
        facts = {"accuracy": float(values.mean()), "ci": interval(values), "seeds": len(values)}
        found.append({**fixed, **facts, "learning_rate": own[0]["learning_rate"]})
    return found


def main_effects(rows: Sequence[Row]) -> list[Row]:
    """For each level of each factor, how much accuracy it adds to the factor's reference, all else equal.

    The difference is taken within every seed, over the mean of all cells that differ in nothing else, so that neither
    the seed nor another factor can be its cause; the interval is Student's over the seeds, and ``p_holm`` that of
    its t test, corrected over all effects of the table (None for a single seed).
    """
    from scipy import stats as reference

    found: list[Row] = []
    for factor in FACTORS:
        first, *others = levels(rows, factor)
        for level in others:
            differences = by_seed(rows, **{factor: level}) - by_seed(rows, **{factor: first})
            p = None
            if len(differences) > 1 and np.ptp(differences) > 0:
                p = float(reference.ttest_1samp(differences, 0).pvalue)
            effect = {"factor": factor, "level": level, "reference": first, "effect": float(differences.mean())}
            found.append({**effect, "ci": interval(differences), "seeds": len(differences), "p": p})
    tested = [row for row in found if row["p"] is not None]
    for row, corrected in zip(tested, stats.holm([row["p"] for row in tested]) if tested else [], strict=True):
        row["p_holm"] = float(corrected)
    return [{"p_holm": None, **row} for row in found]


def within(rows: Sequence[Row], factor: str, level: str, reference: str, **fixed: str) -> Row:
    """A simple effect: ``level`` against ``reference`` of a factor, over the cells that agree with ``fixed``."""
    differences = by_seed(rows, **{factor: level}, **fixed) - by_seed(rows, **{factor: reference}, **fixed)
    return {"effect": float(differences.mean()), "ci": interval(differences), "seeds": len(differences)}


def matched_effects(rows: Sequence[Row]) -> list[Row]:
    """Effects of optimizers over those quantizers alone at which they were tuned to the reference's learning rate.

    Elsewhere an optimizer's effect is also that of its learning rate, which differs by a half decade or more.
    """
    rate = {(row["optimizer"], row["mode"]): row["learning_rate"] for row in rows}
    reference = REFERENCES["optimizer"]
    found = []
    for optimizer in levels(rows, "optimizer"):
        same = [mode for mode in levels(rows, "mode") if rate[optimizer, mode] == rate.get((reference, mode))]
        if optimizer != reference and same:
            chosen = [row for row in rows if row["mode"] in same]
            found.append({"level": optimizer, "modes": same, **within(chosen, "optimizer", optimizer, reference)})
    return found


def variance_shares(rows: Sequence[Row]) -> list[Row]:
    """Share of the accuracies' sum of squares by source: factors, their interactions, the seed, and what is left.

    A balanced design's sums of squares add up to the total, so that the shares add up to one. ``spurious`` is what a
    source without any effect would be expected to take by chance, its degrees of freedom times the residual variance.
    """
    axes = [levels(rows, factor) for factor in FACTORS] + [sorted({row["seed"] for row in rows})]
    place = [{level: number for number, level in enumerate(axis)} for axis in axes]
    table = np.full([len(axis) for axis in axes], np.nan)
    for row in rows:
        table[tuple(p[row[name]] for p, name in zip(place, (*FACTORS, "seed"), strict=True))] = accuracy(row)
    terms = [*itertools.chain.from_iterable(itertools.combinations(range(3), k) for k in (1, 2, 3)), (3,)]
    total = float(((table - table.mean()) ** 2).sum())
    fitted: dict[tuple[int, ...], np.ndarray] = {(): table.mean(keepdims=True)}
    squares, freedom = {}, {}
    for term in terms:
        over = tuple(axis for axis in range(4) if axis not in term)
        mean = table.mean(axis=over, keepdims=True)
        lower = sum((part for key, part in fitted.items() if set(key) < set(term)), np.zeros(1))
        fitted[term] = mean - lower
        squares[term] = float((np.broadcast_to(fitted[term], table.shape) ** 2).sum())
        freedom[term] = int(np.prod([table.shape[axis] - 1 for axis in term]))
    left = max(total - sum(squares.values()), 0.0)
    left_freedom = table.size - 1 - sum(freedom.values())
    noise = left / left_freedom if left_freedom > 0 else 0.0
    names = [*FACTORS, "seed"]
    found = [
        {
            "source": " by ".join(names[axis] for axis in term),
            "share": squares[term] / total if total else 0.0,
            "spurious": freedom[term] * noise / total if total else 0.0,
            "df": freedom[term],
        }
        for term in terms
        if freedom[term]
    ]
    return [
        *found,
        {"source": "residual", "share": left / total if total else 0.0, "spurious": None, "df": left_freedom},
    ]


def as_text(rows: Sequence[Row]) -> str:
    """Cells and effects as lines for a terminal."""
    lines = [f"{'optimizer':<20}{'mode':<15}{'activation':<14}{'rate':>8}  test accuracy (95 % over seeds)"]
    for cell in cells(rows):
        lines.append(
            f"{cell['optimizer']:<20}{cell['mode']:<15}{cell['activation']:<14}{cell['learning_rate']:>8g}  "
            f"{cell['accuracy']:.1%}{_between(cell['ci'], '.1%')}"
        )
    lines.append("")
    for row in main_effects(rows):
        p = "" if row["p_holm"] is None else f", Holm p {row['p_holm']:.3f}"
        against = f"{row['factor']}: {row['level']} against {row['reference']}"
        lines.append(f"{against:<60}{100 * row['effect']:+.2f} points{_between(row['ci'], '+.2%')}{p}")
    return "\n".join(lines)


def _between(ci: tuple[float, float] | None, spec: str) -> str:
    return "" if ci is None else f" ({ci[0]:{spec}} to {ci[1]:{spec}})"


def write_record(path: Path, rows: Sequence[Row]) -> None:
    """Write cells, marginal means, effects and variance shares as recorded metrics."""
    metrics: dict[str, Any] = {"test_images": rows[0]["n"] or 0, "runs": len(rows), "data": rows[0]["data"]}
    metrics["diverged_runs"] = sum(row["diverged"] for row in rows)
    for cell in cells(rows):
        name = "_".join(cell[factor] for factor in FACTORS)
        metrics[f"{name}_accuracy"] = {"value": cell["accuracy"], "n": cell["seeds"], "ci": cell["ci"]}
        metrics[f"{cell['optimizer']}_{cell['mode']}_learning_rate"] = cell["learning_rate"]
    for factor in FACTORS:
        for level in levels(rows, factor):
            values = by_seed(rows, **{factor: level})
            metrics[f"{level}_accuracy"] = {"value": float(values.mean()), "n": len(values), "ci": interval(values)}
    for row in main_effects(rows):
        metrics[f"{row['level']}_effect"] = {"value": row["effect"], "n": row["seeds"], "ci": row["ci"]}
        if row["p_holm"] is not None:
            metrics[f"{row['level']}_p_holm"] = row["p_holm"]
    for row in matched_effects(rows):
        metrics[f"{row['level']}_matched_effect"] = {"value": row["effect"], "n": row["seeds"], "ci": row["ci"]}
        metrics[f"{row['level']}_matched_modes"] = ", ".join(row["modes"])
    for row in variance_shares(rows):
        metrics[f"{row['source'].replace(' ', '_')}_share"] = row["share"]
    recorded.write(path, recorded.command_line(), metrics)


def tuned_rates(metrics: Mapping[str, Mapping[str, Any]], optimizers: Sequence[str], modes: Sequence[str]) -> Rates:
    """The learning rates that a recorded ablation tuned, by optimizer and mode, from its metrics.

    Raises ChimeraError for an optimizer or mode that it did not hold.
    """
    rates = {}
    for optimizer, mode in itertools.product(optimizers, modes):
        name = f"{optimizer}_{mode}_learning_rate"
        if name not in metrics:
            raise ChimeraError(f"the recorded ablation has no learning rate of {optimizer} with {mode}: tune it")
        rates[optimizer, mode] = float(metrics[name]["value"])
    return rates
