"""Optimizers on one problem against AdamW: each at its own tuned learning rate, or all at one that is given.

Tuned, the question is which optimizer to use. At one shared, untuned learning rate (as the published comparison has
it) a gate that merely raises the learning rate looks like one that helps or harms; the control ``adamw_raised``, AdamW
at 1.029 times its learning rate, shows how much of a difference that alone makes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import UnknownName
from chimera_lib.ternary.experiments import trial, tuning
from chimera_lib.ternary.experiments.trial import BASELINE, CONTENDERS, RAISED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chimera_lib.ternary.experiments.trial import Task, Trial
    from chimera_lib.ternary.experiments.tuning import Runner, Tuned

__all__ = ["Row", "compare", "contenders", "with_holm"]


@dataclass(frozen=True)
class Row:
    """One optimizer on one problem, over the reported seeds.

    Attributes:
        learning_rate: what its steps used.
        tuned: how it was found; None where it was given.
        losses: final losses without noise, one a seed; infinite where one diverged.
        differences: losses less AdamW's from the same seeds; empty for AdamW, or where a trial of the two diverged.
        reference: mean loss of AdamW, or NaN where it diverged.
        p: of the paired t test that the mean difference is 0; None where there are no differences.
        p_holm: the same, corrected for the number of tests in the table.
        step_ms: median of the optimizer's step, without warm-up steps, over the seeds.
        state_bytes, psi_bytes: of the optimizer's whole state, and of ψ in it.
        elements: of the parameters.
    """

    task: Task
    optimizer: str
    learning_rate: float
    tuned: Tuned | None
    losses: tuple[float, ...]
    differences: tuple[float, ...]
    reference: float
    p: float | None
    p_holm: float | None
    step_ms: float
    state_bytes: int
    psi_bytes: int
    elements: int

    @property
    def n(self) -> int:
        """Reported seeds."""
        return len(self.losses)

    @property
    def diverged(self) -> int:
        """Seeds that diverged."""
        return sum(not math.isfinite(loss) for loss in self.losses)

    @property
    def loss(self) -> float:
        """Mean loss, infinite where a seed diverged."""
        return float(np.mean(self.losses))

    @property
    def loss_ci(self) -> stats.Interval | None:
        """Student's 95 % interval of the mean loss."""
        return None if self.diverged else stats.student(self.losses)

    @property
    def difference(self) -> float | None:
        """Mean difference to AdamW from the same seeds: below 0 is better than AdamW."""
        return float(np.mean(self.differences)) if self.differences else None

    @property
    def difference_ci(self) -> stats.Interval | None:
        """Student's 95 % interval of the mean difference."""
        return stats.student(self.differences) if self.differences else None

    @property
    def bootstrap_ci(self) -> stats.Interval | None:
        """The bootstrap's percentile interval of the mean difference, which assumes no normal distribution."""
        return stats.bootstrap(self.differences, statistic="mean") if self.differences else None

    @property
    def relative(self) -> tuple[float, float, float] | None:
        """Mean difference and its Student interval as shares of AdamW's mean loss."""
        if self.difference is None or self.difference_ci is None or not self.reference > 0:
            return None
        return (
            self.difference / self.reference,
            self.difference_ci.low / self.reference,
            self.difference_ci.high / self.reference,
        )

    @property
    def edge(self) -> str:
        """``"lowest"`` or ``"highest"`` where the tuned learning rate is an end of the grid."""
        return self.tuned.edge if self.tuned else ""


def contenders(names: Iterable[str] | None = None) -> list[str]:
    """The names to compare, AdamW first whether named or not; all where None.

    Raises:
        UnknownName: a name that is not in ``trial.CONTENDERS``.
    """
    wanted = list(CONTENDERS) if names is None else list(names)
    for name in wanted:
        if name not in CONTENDERS:
            raise UnknownName("optimizer", name, CONTENDERS)
    return list(dict.fromkeys([BASELINE, *wanted]))


def compare(
    task: Task,
    optimizers: Iterable[str] | None = None,
    *,
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (),
    learning_rate: float | None = None,
    runner: Runner = trial.run,
) -> list[Row]:
    """Compare optimizers on a task.

    Args:
        task: the problem and its steps.
        optimizers: names of ``trial.CONTENDERS``; all where None. AdamW is always among them.
        seeds: at least two reported seeds, the same for all.
        tuning_seeds: other seeds, for the learning rates; at least one unless ``learning_rate`` is given.
        learning_rate: for all of them, instead of tuning.
        runner: what runs one trial.

    Returns:
        A row per optimizer, AdamW's first, with p values corrected over these rows.
    """
    rows: list[Row] = []
    for name in contenders(optimizers):
        if learning_rate is not None:
            tuned, lr = None, learning_rate
        elif name == RAISED:  # a control of AdamW, at AdamW's own learning rate and a factor
            tuned, lr = rows[0].tuned, rows[0].learning_rate
        else:
            tuned = tuning.tune(task, name, tuning_seeds, runner)
            lr = tuned.learning_rate
        trials = [runner(task, name, lr, seed) for seed in seeds]
        rows.append(_row(task, name, lr, tuned, trials, rows[0] if rows else None))
    return with_holm(rows)


def _row(task: Task, name: str, lr: float, tuned: Tuned | None, trials: Sequence[Trial], first: Row | None) -> Row:
    losses = tuple(one.loss for one in trials)
    comparable = first is not None and np.isfinite([*losses, *first.losses]).all()
    differences = tuple(a - b for a, b in zip(losses, first.losses, strict=True)) if first and comparable else ()
    reference = float(np.mean(first.losses if first else losses))
    times = [one.step_ms for one in trials if math.isfinite(one.step_ms)]
    return Row(
        task=task,
        optimizer=name,
        learning_rate=lr * CONTENDERS[name].factor,
        tuned=tuned,
        losses=losses,
        differences=differences,
        reference=reference if math.isfinite(reference) else math.nan,
        p=_paired_t(differences) if differences else None,
        p_holm=None,
        step_ms=float(np.median(times)) if times else math.nan,
        state_bytes=trials[0].state_bytes,
        psi_bytes=trials[0].psi_bytes,
        elements=trials[0].elements,
    )


def _paired_t(differences: Sequence[float]) -> float:
    from scipy.stats import ttest_1samp

    if np.ptp(differences) == 0:  # no spread: certain of any difference there is, and scipy would warn
        return 1.0 if differences[0] == 0 else 0.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def with_holm(rows: Sequence[Row]) -> list[Row]:
    """The rows with their p values corrected, by Holm's method, for all the tests among them."""
    tested = [row.p for row in rows if row.p is not None]
    corrected = iter(stats.holm(tested)) if tested else iter(())
    return [replace(row, p_holm=None if row.p is None else float(next(corrected))) for row in rows]
