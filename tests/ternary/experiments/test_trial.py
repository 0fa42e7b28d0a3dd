"""One trial: the loss it reports, what it calls divergence, what it leaves out of its times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.ternary.experiments import trial
from chimera_lib.ternary.experiments.trial import CONTENDERS, Task, run
from chimera_lib.ternary.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from torch.optim import Optimizer


def test_a_trial_is_the_loop_written_out() -> None:
    task = Task("regression", steps=7)
    problem = task.start(5)
    optimizer = torch.optim.AdamW(problem.parameters, lr=0.01, weight_decay=0.0)
    for step in range(1, 8):
        optimizer.zero_grad()
        problem.loss(step).backward()
        optimizer.step()
    done = run(task, "adamw", 0.01, 5)
    assert done.loss == problem.evaluate() and not done.diverged and done.diverged_at is None
    assert run(task, "adamw", 0.01, 5).loss == done.loss


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_learns(name: str) -> None:
    task = Task("regression", steps=40)
    before = task.start(1).evaluate()
    assert run(task, name, 0.01, 1).loss < 0.8 * before


def test_contenders_are_the_optimizers_the_published_variants_and_the_control() -> None:
    assert set(OPTIMIZERS) < set(CONTENDERS)
    options = {}
    for name in ("chimera21_cross", "chimera21_freeze", "chimera21_int8_published"):
        group = trial.make(name, [torch.nn.Parameter(torch.zeros(2))], 0.1).param_groups[0]
        options[name] = (group["cross_gate"], group["zero_gradient"], group["psi_storage"], group["psi_rounding"])
    assert options == {
        "chimera21_cross": ("noise_ratio", "standard", "fp32", "stochastic"),
        "chimera21_freeze": ("off", "freeze", "fp32", "stochastic"),
        "chimera21_int8_published": ("off", "standard", "int8", "as_published"),
    }
    raised = trial.make("adamw_raised", [torch.nn.Parameter(torch.zeros(2))], 0.1)
    assert raised.param_groups[0]["lr"] == pytest.approx(0.1029, abs=1e-4)


@pytest.mark.parametrize("name", ["sgd_momentum", "chimera21"])
def test_divergence_is_a_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "chimera21":  # bounded steps do not overflow by themselves

        def broken(self: object, step: int) -> torch.Tensor:
            (first, *_) = self.parameters  # type: ignore[attr-defined]
            return (first * (math.inf if step == 3 else 1.0)).sum() - (first * (math.inf if step == 3 else 0.0)).sum()

        monkeypatch.setattr("chimera_lib.ternary.experiments.problems.Regression.loss", broken)
    done = run(Task("regression", steps=200), name, 1e6 if name == "sgd_momentum" else 0.01, 0)
    assert done.diverged and done.loss == math.inf
    assert done.diverged_at is not None and 1 <= done.diverged_at < 200


def test_a_gradient_that_is_not_finite_is_a_divergence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def steep(self: object, step: int) -> torch.Tensor:
        (first, *_) = self.parameters  # type: ignore[attr-defined]
        return (first * 0).sqrt().sum()  # 0, of slope 0/0

    monkeypatch.setattr("chimera_lib.ternary.experiments.problems.Regression.loss", steep)
    done = run(Task("regression", steps=5), "chimera21", 0.01, 0)
    assert done.diverged_at == 1 and done.loss == math.inf and math.isnan(done.step_ms)


def test_the_watch_sees_every_step_and_changes_nothing() -> None:
    seen: list[tuple[int, float, float, float]] = []

    def watch(step: int, loss: float, milliseconds: float, optimizer: Optimizer) -> None:
        seen.append((step, loss, milliseconds, optimizer.param_groups[0]["lr"]))

    task = Task("noisy_quadratic", steps=4)
    assert run(task, "lion", 0.01, 0, watch).loss == run(task, "lion", 0.01, 0).loss
    assert [(step, lr) for step, _, _, lr in seen] == [(step, 0.01) for step in (1, 2, 3, 4)]
    assert seen[0][1] == task.start(0).loss(1).item() and all(one[2] > 0 for one in seen)


def test_times_skip_the_warm_up() -> None:
    assert trial.typical([1000.0] * trial.WARM_UP + [1.0, 2.0, 3.0]) == 2.0
    assert trial.typical([4.0, 6.0]) == 5.0
    assert math.isnan(trial.typical([]))


@pytest.mark.parametrize(
    ("name", "state", "psi"),
    [("adamw", 8, 0), ("lion", 4, 0), ("sgd_momentum", 4, 0), ("chimera21", 12, 4), ("chimera21_int8", 9, 1)],
)
def test_state_is_counted(name: str, state: int, psi: int) -> None:
    done = run(Task("regression", steps=2), name, 0.01, 0)
    assert done.elements == 97 and done.psi_bytes == psi * 97
    assert 0 <= done.state_bytes - state * 97 <= 16  # step counts


def test_bad_input_is_refused() -> None:
    for words, said in (({"problem": "x"}, "'x'"), ({"problem": "saddle", "steps": 0}, "steps 0")):
        with pytest.raises(ChimeraError, match=said):
            Task(**words)  # type: ignore[arg-type]
    with pytest.raises(ChimeraError, match="sparsity 2"):
        Task("saddle", sparsity=2)
    with pytest.raises(UnknownName, match="did you mean 'adamw'"):
        run(Task("saddle", steps=1), "adam", 0.1, 0)
    for lr in (-0.1, math.nan, math.inf):
        with pytest.raises(ChimeraError, match="learning rate"):
            run(Task("saddle", steps=1), "adamw", lr, 0)
