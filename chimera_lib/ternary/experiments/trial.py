"""One trial: one optimizer at one learning rate on one problem, from one seed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import BadGradient, ChimeraError, UnknownName
from chimera_lib.ternary.experiments import problems
from chimera_lib.ternary.optimizers import OPTIMIZERS, build
from chimera_lib.ternary.optimizers.diagnostics import state_bytes
from chimera_lib.ternary.optimizers.gate import expected_kappa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn
    from torch.optim import Optimizer

    Watch = Callable[[int, float, float, Optimizer], None]

__all__ = ["BASELINE", "BIAS", "CONTENDERS", "RAISED", "Contender", "Task", "Trial", "logarithms", "make", "run"]

BASELINE = "adamw"
RAISED = "adamw_raised"  # a control: AdamW at the learning rate that the published gate amounts to on noise
BIAS = expected_kappa(0.1, 0.9)  # 1.029
LEAST = 1e-12  # losses below are taken for it, as a loss of zero has no logarithm
WARM_UP = 10  # steps that timings skip


@dataclass(frozen=True)
class Contender:
    """What is compared: a named optimizer, options over its own, and a factor on the learning rate it is given."""

    optimizer: str
    options: Mapping[str, Any]
    factor: float = 1.0


CONTENDERS: dict[str, Contender] = {
    **{name: Contender(name, {}) for name in OPTIMIZERS},
    # The variants of the published comparison, which it calls cross-gated, zero-freeze and int8 psi.
    "chimera21_cross": Contender("chimera21", {"cross_gate": "noise_ratio"}),
    "chimera21_freeze": Contender("chimera21", {"zero_gradient": "freeze"}),
    "chimera21_int8_published": Contender("chimera21_int8", {"psi_rounding": "as_published"}),
    RAISED: Contender(BASELINE, {}, BIAS),
}


@dataclass(frozen=True)
class Task:
    """A problem and for how long it is worked on.

    Raises:
        ChimeraError: an unknown problem, a sparsity or noise scale out of range, or less than one step.
    """

    problem: str
    steps: int = 300
    sparsity: float = 0.7  # of sparse_relu's inputs
    noise_scale: float = 1.0  # of noisy_quadratic

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ChimeraError(f"steps {self.steps}: expected at least 1")
        self.start(0)

    def start(self, seed: int) -> problems.Problem:
        """The problem at its start; one seed for data, noise and weights, which draw from streams of their own."""
        options = {"sparsity": self.sparsity, "noise_scale": self.noise_scale}
        return problems.make(self.problem, seed, seed, **options)


@dataclass(frozen=True)
class Trial:
    """What came of one: ``loss`` is the last step's, without noise, and infinite where the trial diverged."""

    loss: float
    step_ms: float  # median time of optimizer.step() after the warm-up, in milliseconds; of all steps if too few
    state_bytes: int  # of the optimizer's whole state
    psi_bytes: int  # of ψ in it
    elements: int  # of the parameters
    diverged_at: int | None = None  # the step whose loss or gradient was not finite

    @property
    def diverged(self) -> bool:
        """Whether the loss is not a finite number."""
        return not math.isfinite(self.loss)


def make(name: str, parameters: list[nn.Parameter], lr: float) -> Optimizer:
    """The optimizer of a contender.

    Raises:
        UnknownName: no contender is called so.
        ChimeraError: ``lr`` is negative or not finite.
    """
    if name not in CONTENDERS:
        raise UnknownName("optimizer", name, CONTENDERS)
    if not 0 <= lr < math.inf:
        raise ChimeraError(f"learning rate {lr}: expected a finite number of at least 0")
    one = CONTENDERS[name]
    return build(one.optimizer, parameters, lr * one.factor, **one.options)


def run(task: Task, name: str, lr: float, seed: int, watch: Watch | None = None) -> Trial:
    """Run a contender through a task.

    Args:
        task: the problem and its steps.
        name: of ``CONTENDERS``.
        lr: at least 0.
        seed: of data, noise and weights.
        watch: called after each step with the step (from 1), its noisy loss, the milliseconds that ``optimizer.step()``
            took, and the optimizer; its own time is not counted.

    Returns:
        The trial; one that diverged ends at once.
    """
    problem = task.start(seed)
    optimizer = make(name, problem.parameters, lr)
    times: list[float] = []
    diverged_at = None
    for step in range(1, task.steps + 1):
        optimizer.zero_grad()
        loss = problem.loss(step)
        seen = loss.item()
        if not math.isfinite(seen):
            diverged_at = step
            break
        loss.backward()
        start = time.perf_counter()
        try:
            optimizer.step()
        except BadGradient:  # not finite: a dense real gradient can be refused for nothing else
            diverged_at = step
            break
        times.append(1e3 * (time.perf_counter() - start))
        if watch is not None:
            watch(step, seen, times[-1], optimizer)
    end = problem.evaluate() if diverged_at is None else math.inf
    sizes = state_bytes(optimizer.state.values())
    return Trial(
        loss=end if math.isfinite(end) else math.inf,
        step_ms=typical(times),
        state_bytes=sizes["total"],
        psi_bytes=sizes["psi"],
        elements=sum(p.numel() for p in problem.parameters),
        diverged_at=diverged_at if math.isfinite(end) or diverged_at else task.steps,
    )


def typical(times: list[float]) -> float:
    """The median of step times without the first ``WARM_UP``; of all where there are no others; NaN of none."""
    kept = times[WARM_UP:] or times
    return float(np.median(kept)) if kept else math.nan


def logarithms(losses: Sequence[float]) -> np.ndarray:
    """ln of losses, at least 0 each, shape (n,); infinite where they are."""
    return np.log(np.maximum(np.asarray(losses, dtype=np.float64), LEAST))
