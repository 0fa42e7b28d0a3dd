"""One run, as the analysis sees it: what was done, what was measured before and after, and why it failed if it did."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

RANK_REDUCTION = "rank_reduction_pct"  # 100 (1 - after / before): positive where the rank fell
LOG_PERPLEXITY = "log_perplexity_change"  # nats, after less before: positive where the model got worse
PERPLEXITY_INCREASE = "perplexity_increase_pct"
PERPLEXITY_POST = "post_attack_perplexity"
PERPLEXITY_BASE = "baseline_perplexity"
RANK_POST = "post_attack_rank"
RANK_BASE = "baseline_rank"


@dataclass(frozen=True)
class RunResult:
    """A run of a result folder.

    Attributes:
        model: its short name, such as ``410m`` or ``neox-1m``.
        run: its number, from 1.
        precision: ``fp16`` and so on; empty where nothing says it.
        treatment: ``eigen_prion``, or the name of a control.
        optimizer: ``adamw`` and so on, as the run is named.
        method: the optimizer that really ran, where that is another one.
        tuning: ``full`` or ``lora``.
        parameters: of the model; None where neither the name nor the files say it.
        learning_rate, seed: as the files say, else None.
        metrics: the numbers that the files hold, by name: ``baseline_<measure>``, ``post_attack_<measure>``,
            and with them ``rank_reduction_pct``.
        repeats: it was shown one sequence at every step; False: a fresh one each; None where nothing says it.
        published: the run is one of the original project's.
        double_shift: its perplexities were measured with the labels shifted twice.
        held: what else the runs of one group have to share (faults, steps, ...), as far as its files say it.
        failed: why it does not count; empty for a run that does.
        folder: where it was read; None for a line of a table without a folder.
    """

    model: str
    run: int
    precision: str
    treatment: str
    optimizer: str
    tuning: str = "full"
    method: str = ""
    parameters: float | None = None
    learning_rate: float | None = None
    seed: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    repeats: bool | None = None
    published: bool = False
    double_shift: bool = False
    held: Mapping[str, Any] = field(default_factory=dict, repr=False)
    failed: str = ""
    folder: Path | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two runs of a folder share."""
        return (self.model, self.precision, self.tuning, self.treatment, self.optimizer, self.run)

    @property
    def pairing(self) -> int:
        """What runs of different treatments have in common that started alike: the seed, else the run's number."""
        return self.run if self.seed is None else self.seed

    def metric(self, name: str) -> float | None:
        """A metric by its name in the files, or one derived from them; None where it is missing or not finite.

        Derived: `LOG_PERPLEXITY`, `PERPLEXITY_INCREASE`, and for any measure ``<measure>_change``, after less before.
        """
        if name in self.metrics:
            return _finite(self.metrics[name])
        if name == LOG_PERPLEXITY:
            before, after = self._log_perplexity("baseline"), self._log_perplexity("post_attack")
            return None if before is None or after is None else after - before
        if name == PERPLEXITY_INCREASE:
            before, after = self.metric(PERPLEXITY_BASE), self.metric(PERPLEXITY_POST)
            return None if not before or after is None else (after - before) / before * 100
        if name.endswith("_change"):
            measure = name.removesuffix("_change")
            before, after = self.metric(f"baseline_{measure}"), self.metric(f"post_attack_{measure}")
            return None if before is None or after is None else after - before
        return None

    def _log_perplexity(self, when: str) -> float | None:
        logged = self.metric(f"{when}_log_perplexity")
        if logged is not None:
            return logged
        plain = self.metric(f"{when}_perplexity")
        return math.log(plain) if plain is not None and plain > 0 else None


def counted(runs: Sequence[RunResult]) -> list[RunResult]:
    """The runs that did not fail."""
    return [run for run in runs if not run.failed]


def values(runs: Sequence[RunResult], metric: str) -> list[float]:
    """A metric of those runs that did not fail and have it."""
    return [value for run in counted(runs) if (value := run.metric(metric)) is not None]


def paired(treated: Sequence[RunResult], controls: Sequence[RunResult], metric: str) -> tuple[list[float], list[float]]:
    """A metric of the runs of both kinds that share a seed, in one order; failed runs take their partner with them."""
    first = {run.pairing: run.metric(metric) for run in counted(treated)}
    second = {run.pairing: run.metric(metric) for run in counted(controls)}
    pairs = [(first[seed], second[seed]) for seed in sorted(first) if second.get(seed) is not None]
    complete = [(one, two) for one, two in pairs if one is not None and two is not None]
    return [one for one, _ in complete], [two for _, two in complete]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
