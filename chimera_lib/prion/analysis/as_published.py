"""The summary and the tests as the original project makes them: means of rounded values, tests that pool variances.

Its means are of absolute values, so that a rank that rises counts as damage like one that falls, and grow with the
spread alone; its tests are of the signed values all the same. Both are kept here beside the corrected ones.
"""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import effects
from chimera_lib.prion.analysis.groups import PRIORITIES
from chimera_lib.prion.analysis.runs import (
    PERPLEXITY_BASE,
    PERPLEXITY_INCREASE,
    PERPLEXITY_POST,
    RANK_BASE,
    RANK_POST,
    RANK_REDUCTION,
    RunResult,
    counted,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]


def row(priority: int, name: str, runs: Sequence[RunResult], *, absolute: bool) -> Row:
    """One line of the published summary, its columns in its order.

    Args:
        priority: 1 to 4.
        name: of the group.
        runs: of the group; failed ones are not averaged.
        absolute: means of magnitudes, as published; else of signed values.

    Returns:
        Column to number; None where there is nothing to average (a standard deviation needs two runs).
    """
    good = counted(runs)
    changes = np.array(values(good, RANK_REDUCTION))
    rank = _four("rank_reduction_pct", np.abs(changes) if absolute else changes)
    perplexity: Row = {}
    for label, metric in (
        ("baseline_perplexity", PERPLEXITY_BASE),
        ("post_attack_perplexity", PERPLEXITY_POST),
        ("perplexity_increase_pct", PERPLEXITY_INCREASE),
    ):
        perplexity |= _four(label, np.array(values(good, metric)))
    first = PRIORITIES[priority].column
    if priority != 1:
        return {first: name, **rank, "num_runs": len(good), **perplexity}
    size = next((run.parameters for run in runs if run.parameters), None)
    ranks = {f"mean_{label}": _mean(values(good, label)) for label in (RANK_BASE, RANK_POST)}
    sizes = {"model_size": size, "model_size_millions": None if size is None else size / 1e6}
    return {first: name, **sizes, "num_runs": len(good), **rank, **ranks, **perplexity}


def tests(priority: int, groups: Mapping[str, Sequence[RunResult]]) -> Row:
    """The published tests, of signed values: none of the scaling law, Student's t of two optimizers, else an analysis
    of variance and Student's t of every pair.

    Returns:
        ``{"statistical_test": ...}`` or ``{"statistical_tests": ...}``, as its JSON files have them; p is None where a
        group holds a single value or nothing varies.
    """
    samples = {name: values(members, RANK_REDUCTION) for name, members in groups.items()}
    if priority == 1:
        return {}
    if priority == 3 and len(samples) == 2:
        statistic, p = _student(*samples.values())
        found = {"test_type": "t-test", "t_statistic": statistic, "p_value": p, "significant": _significant(p)}
        return {"statistical_test": found}
    f, p, error = _anova(list(samples.values()))
    anova = {"f_statistic": f, "p_value": p, "significant": _significant(p), "error": error}
    pairs = {
        f"{one} vs {two}": {"p_value": _student(samples[one], samples[two])[1]}
        for one, two in itertools.combinations(samples, 2)
    }
    return {"statistical_tests": {"anova": anova, "pairwise": pairs}}


def _four(name: str, numbers: np.ndarray) -> Row:
    """Mean, sample deviation, least and most of some numbers, under the published names."""
    some, several = numbers.size > 0, numbers.size > 1
    return {
        f"mean_{name}": float(numbers.mean()) if some else None,
        f"std_dev_{name}": float(numbers.std(ddof=1)) if several else None,
        f"min_{name}": float(numbers.min()) if some else None,
        f"max_{name}": float(numbers.max()) if some else None,
    }


def _mean(numbers: Sequence[float]) -> float | None:
    return float(np.mean(numbers)) if len(numbers) else None


def _significant(p: float | None) -> bool | None:
    return None if p is None else p < 0.05


def _student(a: Sequence[float], b: Sequence[float]) -> tuple[float | None, float | None]:
    """Student's t of two groups with one variance, and its p."""
    from scipy import stats as reference

    one, two = np.asarray(a), np.asarray(b)
    if min(one.size, two.size) < 2 or (effects.constant(one) and effects.constant(two)):
        return None, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's on a group that does not vary
        result = reference.ttest_ind(one, two)
    return float(result.statistic), float(result.pvalue)


def _anova(samples: Sequence[Sequence[float]]) -> tuple[float | None, float | None, str | None]:
    """One-way analysis of variance with one variance: F, p, and why there is none."""
    from scipy import stats as reference

    arrays = [np.asarray(one) for one in samples]
    if len(arrays) < 2 or min(one.size for one in arrays) < 2:
        return None, None, "fewer than two groups of two values"
    if all(effects.constant(one) for one in arrays):
        return None, None, "no group varies"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = reference.f_oneway(*arrays)
    return float(result.statistic), float(result.pvalue), None
