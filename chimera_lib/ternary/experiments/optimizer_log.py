"""The JSON Lines records of optimizer comparisons: steps with their diagnostics, trials, and a table's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.ternary.experiments import log as logs
from chimera_lib.ternary.experiments import trial, tuning
from chimera_lib.ternary.experiments.trial import CONTENDERS
from chimera_lib.ternary.optimizers import diagnostics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

    from chimera_lib.ternary.experiments.optimizer_comparison import Row
    from chimera_lib.ternary.experiments.trial import Task, Trial

__all__ = ["Logged", "log_rows"]


class Logged:
    """A runner that writes the trials of reported seeds into a log of the optimizer schema.

    A ``step`` record each ``every`` steps, with the diagnostics of optimizers that have a gate, and a ``final`` one,
    whose loss is without noise. Tuning trials are not logged.
    """

    def __init__(self, log: logs.Log, every: int = 10) -> None:
        self.log, self.every = log, every

    def __call__(self, task: Task, name: str, lr: float, seed: int) -> Trial:
        """Run a trial, logged if its seed is a reported one."""
        if seed >= tuning.FIRST_TUNING_SEED:
            return trial.run(task, name, lr, seed)
        last: dict[str, Any] = {}

        def watch(step: int, loss: float, milliseconds: float, optimizer: Optimizer) -> None:
            if step % self.every == 0 or step == task.steps:
                last.update(_of_step(optimizer))
                self.log.write("step", step=step, loss=loss, step_time_ms=milliseconds, **common, **last)

        common = {**_of_task(task, name), "seed": seed, "init_seed": seed}
        done = trial.run(task, name, lr, seed, watch)
        self.log.write(
            "final",
            step=done.diverged_at or task.steps,
            loss=done.loss,
            **{**common, "lr": lr * CONTENDERS[name].factor, **last},
            step_time_ms_after_warmup=done.step_ms,
            **_of_memory(done),
        )
        return done


def _of_task(task: Task, name: str) -> dict[str, Any]:
    own = {"sparse_relu": {"sparsity": task.sparsity}, "noisy_quadratic": {"noise_scale": task.noise_scale}}
    return {"problem": task.problem, "optimizer_name": name, **own.get(task.problem, {})}


def _of_step(optimizer: Optimizer) -> dict[str, Any]:
    """The log fields of an optimizer after a step."""
    group = optimizer.param_groups[0]
    fields = {**logs.optimizer_fields(group), **logs.policy_fields(group)}
    if "rho_psi" in group:
        seen = diagnostics.measure(optimizer.param_groups, optimizer.state)
        shared = set(logs.OPTIMIZER) - set(fields)
        fields |= {name: value for name, value in vars(seen).items() if name in shared} if seen else {}
    return fields


def _of_memory(seen: Trial | Row) -> dict[str, Any]:
    return {
        "optimizer_state_bytes": seen.state_bytes,
        "psi_state_bytes": seen.psi_bytes,
        "psi_memory_ratio_vs_fp32": seen.psi_bytes / (4 * seen.elements) if seen.psi_bytes else None,
    }


def log_rows(log: logs.Log, rows: Sequence[Row]) -> None:
    """Write a ``summary`` record per row: mean loss, learning rate, step time, memory."""
    for row in rows:
        log.write(
            "summary",
            step=row.task.steps,
            loss=row.loss,
            lr=row.learning_rate,
            step_time_ms_after_warmup=row.step_ms,
            **_of_task(row.task, row.optimizer),
            **_of_memory(row),
        )
