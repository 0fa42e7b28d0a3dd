"""The gate of Chimera 2.1 by itself: what ψ and κ do on gradients of which everything is known.

The optimizer runs at learning rate 0 on gradients that are written into its parameter, so that what is measured is the
optimizer's own state, not a copy of its formulas. The two equalities that the gate must keep are measured here too:
λ = 0 is AdamW, and a run that is resumed is the run that was not interrupted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.experiments import problems
from chimera_lib.ternary.optimizers import Chimera21, agreement_state, gate

__all__ = ["SIGNALS", "Course", "cast_on_load", "drive", "expected_psi", "lambda_zero_difference", "policies"]
__all__ += ["resume_difference"]

SIGNALS = ("noise", "constant", "alternating")


@dataclass(frozen=True)
class Course:
    """What the gate did over a number of steps.

    Attributes:
        psi: mean of ψ over the coordinates after each step, shape (steps,).
        last_psi: ψ of each coordinate after the last step, shape (coordinates,).
        last_kappa: κ of each coordinate there, as the step used it.
    """

    psi: np.ndarray
    last_psi: np.ndarray
    last_kappa: np.ndarray


def drive(signal: str, *, steps: int, coordinates: int = 1, seed: int = 0, **options: Any) -> Course:
    """Drive ``Chimera21`` with a known signal.

    Args:
        signal: ``"noise"``, independent standard normal numbers; ``"constant"``, 1; ``"alternating"``, 1, -1, 1, ...
        steps: at least 1.
        coordinates: independent coordinates, at least 1.
        seed: of the noise.
        options: of ``Chimera21``.

    Raises:
        UnknownName: no signal is called so.
    """
    if signal not in SIGNALS:
        raise UnknownName("signal", signal, SIGNALS)
    weight = nn.Parameter(torch.zeros(coordinates))
    optimizer = Chimera21([weight], lr=0.0, **options)
    drawn = torch.Generator().manual_seed(seed)
    means = []
    for step in range(steps):
        if signal == "noise":
            weight.grad = torch.randn(coordinates, generator=drawn)
        else:
            weight.grad = torch.full((coordinates,), -1.0 if signal == "alternating" and step % 2 else 1.0)
        optimizer.step()
        means.append(float(_psi(optimizer, weight).mean()))
    psi = _psi(optimizer, weight)
    return Course(np.array(means), psi.numpy(), _kappa(optimizer, weight, psi).numpy())


def _psi(optimizer: Chimera21, weight: Tensor) -> Tensor:
    psi = optimizer.state[weight]["psi"]
    if psi.dtype == torch.int8:
        return agreement_state.decode(psi, torch.float64)
    return psi.double()


def _kappa(optimizer: Chimera21, weight: Tensor, psi: Tensor) -> Tensor:
    group, state = optimizer.param_groups[0], optimizer.state[weight]
    floor = float(state["psi_floor"]) if group["neutral"] == "floor" else 0.0
    kappa = gate.gate(psi, group["lambda_gate"], *group["kappa"], floor=floor)
    return kappa / kappa.mean() if group["neutral"] == "mean" else kappa


def expected_psi(beta1: float, rho: float, steps: int) -> np.ndarray:
    """E ψ_t on noise from ψ = 0: the average of ``gate.noise_floor`` at each step so far, shape (steps,)."""
    psi, course = 0.0, []
    for step in range(1, steps + 1):
        psi = rho * psi + (1 - rho) * gate.noise_floor(beta1, step)
        course.append(psi)
    return np.array(course)


def policies(*, rho: float = 0.5, idle: float = 0.2) -> dict[str, float]:
    """ψ by zero-gradient policy after a step with the gradient 1 and one with 0."""
    found = {}
    for policy in gate.POLICIES:
        weight = nn.Parameter(torch.zeros(1))
        optimizer = Chimera21([weight], rho_psi=rho, zero_gradient=policy, idle_decay=idle)
        for slope in (1.0, 0.0):
            weight.grad = torch.tensor([slope])
            optimizer.step()
        found[policy] = float(optimizer.state[weight]["psi"])
    return found


def cast_on_load(steps: int) -> tuple[float, float, float]:
    """int8 ψ over a checkpoint, after so many steps of full agreement.

    Returns:
        ψ before; ψ as ``torch.optim.Optimizer.load_state_dict`` leaves it, cast to the parameter's dtype (what the
        published optimizer computes with after a resume); and ψ as ours loads it.
    """
    weight = nn.Parameter(torch.zeros(1))
    optimizer = Chimera21([weight], lr=0.0, psi_storage="int8", psi_rounding="as_published")
    for _ in range(steps):
        weight.grad = torch.ones(1)
        optimizer.step()
    before = float(_psi(optimizer, weight))
    saved = _through_a_file(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    ours = float(_psi(optimizer, weight))
    torch.optim.Optimizer.load_state_dict(optimizer, saved)
    return before, float(optimizer.state[weight]["psi"]), ours


def _through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _train(problem: problems.Problem, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        optimizer.zero_grad()
        problem.loss(step).backward()
        optimizer.step()


def _distance(one: problems.Problem, other: problems.Problem) -> float:
    pairs = zip(one.parameters, other.parameters, strict=True)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs)


def lambda_zero_difference(steps: int = 100, seed: int = 0) -> float:
    """Largest difference of a weight between λ = 0 and torch's AdamW after training on the regression problem."""
    ours, theirs = (problems.make("regression", seed, seed) for _ in range(2))
    _train(ours, Chimera21(ours.parameters, lr=1e-2, weight_decay=0.01, lambda_gate=0.0), 0, steps)
    _train(theirs, torch.optim.AdamW(theirs.parameters, lr=1e-2, weight_decay=0.01), 0, steps)
    return _distance(ours, theirs)


def resume_difference(storage: str, steps: int = 100, seed: int = 0) -> float:
    """Largest difference of a weight between a run and the same run saved, loaded and resumed half way.

    Args:
        storage: of ψ, ``"fp32"`` or ``"int8"``.
        steps: of the whole run on the regression problem.
        seed: of the problem.
    """
    whole, begun, resumed = (problems.make("regression", seed, seed) for _ in range(3))
    _train(whole, Chimera21(whole.parameters, lr=1e-2, psi_storage=storage), 0, steps)
    before = Chimera21(begun.parameters, lr=1e-2, psi_storage=storage)
    _train(begun, before, 0, steps // 2)
    saved = _through_a_file({"weights": [p.detach() for p in begun.parameters], "optimizer": before.state_dict()})
    with torch.no_grad():
        for parameter, value in zip(resumed.parameters, saved["weights"], strict=True):
            parameter.copy_(value)
    after = Chimera21(resumed.parameters, lr=1e-2, psi_storage=storage)
    after.load_state_dict(saved["optimizer"])
    _train(resumed, after, steps // 2, steps)
    return _distance(whole, resumed)
