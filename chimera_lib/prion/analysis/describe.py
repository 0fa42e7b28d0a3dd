"""A group of runs in numbers: signed means with two intervals each, magnitudes beside them, and how it was run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import effects, stats
from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RANK_REDUCTION, RunResult, counted, values

if TYPE_CHECKING:
    from collections.abc import Sequence

_ELSEWHERE = ("perplexity", "log_perplexity", "rank", "effective_rank", "positions")


def numbers(found: Sequence[float], *, seed: int = 0) -> dict[str, Any]:
    """Describe some values.

    Args:
        found: one a run; may be empty.
        seed: of the bootstrap's draws.

    Returns:
        n, mean, sd (sample), ``interval`` (Student, 95 %) and ``bootstrap`` (95 %) of the mean; the mean of magnitudes
        and what that would be if the mean were zero and the values normal, sd times sqrt(2 / pi); how many are below
        zero. None where there are too few, or they do not vary.
    """
    data = np.asarray(found, dtype=np.float64)
    several = data.size > 1
    deviation = float(data.std(ddof=1)) if several else None
    spread = several and not effects.constant(data)  # the mean of copies of one value has no interval to speak of
    return {
        "n": int(data.size),
        "mean": float(data.mean()) if data.size else None,
        "sd": deviation,
        "interval": stats.student(data) if spread else None,
        "bootstrap": stats.bootstrap(data, statistic="mean", seed=seed) if spread else None,
        "mean_absolute": float(np.abs(data).mean()) if data.size else None,
        "mean_absolute_if_no_effect": None if deviation is None else deviation * math.sqrt(2 / math.pi),
        "below_zero": int((data < 0).sum()),
    }


def group(name: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    """Describe a group: how it was run, and the change of its rank, of its log-perplexity and of all else measured."""
    good = counted(runs)
    logs = numbers(values(good, LOG_PERPLEXITY))
    logs["factor"] = None if logs["mean"] is None else _exp(logs["mean"])
    return {
        "group": name,
        "num_runs": len(good),
        "failed_runs": len(runs) - len(good),
        "parameters": next((run.parameters for run in runs if run.parameters), None),
        "learning_rates": sorted({run.learning_rate for run in good if run.learning_rate is not None}),
        "optimizers": sorted({run.optimizer for run in good}),
        "treatments": sorted({run.treatment for run in good}),
        "precisions": sorted({run.precision for run in good}),
        "tunings": sorted({run.tuning for run in good}),
        "double_shifted": any(run.double_shift for run in good),
        "one_value": repeated(values(good, RANK_REDUCTION)),
        RANK_REDUCTION: numbers(values(good, RANK_REDUCTION)),
        LOG_PERPLEXITY: logs,
        "other_changes": {name: numbers(found) for name, found in _others(good).items()},
    }


def repeated(found: Sequence[float]) -> bool:
    """Whether several runs gave one and the same value, as those of a seed that never changes do."""
    return len(found) > 1 and effects.constant(np.asarray(found, dtype=np.float64))


def _others(runs: Sequence[RunResult]) -> dict[str, list[float]]:
    """Changes of the measures taken both before and after, besides rank and perplexity, where any run has them."""
    measures = sorted(
        {
            key.removeprefix("post_attack_")
            for run in runs
            for key in run.metrics
            if key.startswith("post_attack_") and f"baseline_{key.removeprefix('post_attack_')}" in run.metrics
        }
    )
    found = {f"{name}_change": values(runs, f"{name}_change") for name in measures if name not in _ELSEWHERE}
    return {name: changes for name, changes in found.items() if changes}


def _exp(power: float) -> float:
    return math.exp(power) if power < 700 else math.inf
