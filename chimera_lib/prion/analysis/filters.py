"""The source's two filters of outliers, as a sensitivity analysis: what would have been left out, and what then.

The primary numbers of this project are those of all runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence

Method = Literal["iqr", "zscore"]
METHODS = ("iqr", "zscore")
METRICS = {  # as the source calls them -> as a run names them
    "rank_reduction": "rank_reduction_pct",
    "perplexity_increase": "perplexity_increase_pct",
    "perplexity_post": "post_attack_perplexity",
}
LEAST = {"iqr": 4, "zscore": 3}


class Filter(NamedTuple):
    """A filter and its setting.

    Attributes:
        method: ``iqr`` or ``zscore``.
        metric: one of `METRICS`.
        multiplier: how many interquartile ranges beyond the quartiles are still kept.
        threshold: how many standard deviations from the mean are still kept.
    """

    method: Method
    metric: str = "rank_reduction"
    multiplier: float = 1.5
    threshold: float = 3.0


def kept(values: Sequence[float], chosen: Filter) -> np.ndarray:
    """Which of a group's values a filter keeps, shape (N,), bool.

    All are kept where there are fewer than four (iqr) or three (zscore) of them, or no spread to measure by.

    Raises:
        ChimeraError: an unknown method, or a setting below 0.

    >>> kept([1, 2, 3, 4, 90], Filter("iqr")).tolist()
    [True, True, True, True, False]
    """
    if chosen.method not in METHODS:
        raise ChimeraError(f"unknown filter {chosen.method!r}: choose one of {', '.join(METHODS)}")
    setting = chosen.multiplier if chosen.method == "iqr" else chosen.threshold
    if not setting >= 0:
        raise ChimeraError(f"filter {chosen.method} with {setting}: expected a number of at least 0")
    numbers = np.asarray(values, dtype=np.float64)
    everything = np.ones(numbers.size, dtype=bool)
    if numbers.size < LEAST[chosen.method]:
        return everything
    if chosen.method == "iqr":
        low, high = np.quantile(numbers, (0.25, 0.75))
        reach = chosen.multiplier * (high - low)
        return everything if high == low else (numbers >= low - reach) & (numbers <= high + reach)
    deviation = numbers.std(ddof=1)
    if deviation == 0:
        return everything
    return np.asarray(np.abs(numbers - numbers.mean()) / deviation <= chosen.threshold, dtype=bool)


def largest_z(n: int) -> float:
    """The largest z-score that any of n values can have by their own mean and standard deviation: (n - 1) / sqrt(n).

    Source: Shiffler, Maximum Z scores and outliers, The American Statistician 42 (1988).

    >>> round(largest_z(10), 3)
    2.846
    """
    return (n - 1) / math.sqrt(n)


def can_fire_from(threshold: float) -> int:
    """The least number of values among which one can have a z-score beyond a threshold.

    >>> can_fire_from(3.0)
    11
    """
    n = LEAST["zscore"]
    while largest_z(n) <= threshold:
        n += 1
    return n


def note(chosen: Filter, sizes: Sequence[int]) -> str:
    """What a filter can do at all to groups of these sizes, computed."""
    most = max(sizes, default=0)
    if chosen.method == "iqr":
        small = sum(size < LEAST["iqr"] for size in sizes)
        return f"{small} of {len(sizes)} groups have fewer than {LEAST['iqr']} values and are left as they are"
    reach = (
        f"among {most} values no z-score can be larger than (n - 1) / sqrt(n) = {largest_z(most):.3f}" if most else ""
    )
    if most and largest_z(most) <= chosen.threshold:
        least = can_fire_from(chosen.threshold)
        return f"{reach}: a threshold of {chosen.threshold:g} can never leave one out; it could from {least} values on"
    return reach
