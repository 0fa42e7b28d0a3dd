"""What a step of Chimera 2.1 did, from the state it left: gate, noise, learning rates, updates, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from chimera_lib.ternary.optimizers import agreement_state, gate, paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Diagnostics", "measure", "state_bytes"]

SATURATED = 0.999  # of |ψ|
KEYS = {"exp_avg": "m", "exp_avg_sq": "v", "psi": "psi"}


@dataclass(frozen=True)
class Diagnostics:
    """One step, over all elements of the parameters that had a gradient.

    ``effective_lr`` is lr·κ/(√v̂+ε); *active* elements are those whose gradient is not zero. Updates are the gated
    steps lr·κ·m̂/(√v̂+ε), without weight decay. ``noise_ratio`` is n = √v̂/(|m̂|+ε), and ``collision_score`` the
    mean of |ln κ|·n: how hard the gate works where there is little to go by.
    """

    kappa_mean: float
    kappa_std: float
    kappa_min: float
    kappa_max: float
    noise_ratio_mean: float
    effective_lr_mean: float
    active_effective_lr_mean: float  # NaN if no element is active
    update_norm: float
    update_parameter_ratio: float  # of the norms; parameters as the step left them
    update_mean_abs: float
    update_max_abs: float
    zero_gradient_ratio: float
    active_ratio: float
    psi_mean_abs: float
    psi_saturation: float  # share of |ψ| >= .999
    collision_score: float
    elements: int


def state_bytes(states: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of an optimizer's state by kind: m, v, psi, other, total."""
    sizes = dict.fromkeys(("m", "v", "psi", "other"), 0)
    for state in states:
        for name, value in state.items():
            if isinstance(value, Tensor):
                sizes[KEYS.get(name, "other")] += value.numel() * value.element_size()
    return {**sizes, "total": sum(sizes.values())}


def measure(groups: Sequence[dict[str, Any]], states: Mapping[Tensor, dict[str, Any]]) -> Diagnostics | None:
    """Recompute the last step from gradients and state, in float64; None if no parameter had a gradient."""
    sums: dict[str, float] = {}
    least, most, largest = math.inf, -math.inf, 0.0
    for group in groups:
        for parameter in group["params"]:
            grad = parameter.grad
            if grad is None or not parameter.numel():
                continue
            seen, extremes = _of_one(group, parameter, grad, states[parameter])
            for name, value in seen.items():
                sums[name] = sums.get(name, 0.0) + value
            least, most = min(least, extremes[0]), max(most, extremes[1])
            largest = max(largest, extremes[2])
    if not sums:
        return None
    count, active = sums["count"], sums["active"]
    mean = sums["kappa"] / count
    return Diagnostics(
        kappa_mean=mean,
        kappa_std=math.sqrt(max(sums["kappa_square"] / count - mean**2, 0.0)),
        kappa_min=least,
        kappa_max=most,
        noise_ratio_mean=sums["ratio"] / count,
        effective_lr_mean=sums["effective"] / count,
        active_effective_lr_mean=sums["active_effective"] / active if active else math.nan,
        update_norm=math.sqrt(sums["update_square"]),
        update_parameter_ratio=math.sqrt(sums["update_square"] / max(sums["parameter_square"], 1e-300)),
        update_mean_abs=sums["update_abs"] / count,
        update_max_abs=largest,
        zero_gradient_ratio=1 - active / count,
        active_ratio=active / count,
        psi_mean_abs=sums["psi_abs"] / count,
        psi_saturation=sums["saturated"] / count,
        collision_score=sums["collision"] / count,
        elements=int(count),
    )


def _of_one(
    group: dict[str, Any], parameter: Tensor, grad: Tensor, state: dict[str, Any]
) -> tuple[dict[str, float], tuple[float, float, float]]:
    """Sums over one parameter, and the least κ, the greatest κ and the greatest |update|."""
    floor = float(state["psi_floor"]) if group["neutral"] == "floor" else 0.0
    s = paths.scalars_of(group, float(state["step"]), floor)
    m, v = state["exp_avg"].double(), state["exp_avg_sq"].double()
    psi = state["psi"].double()
    if group["psi_storage"] == "int8":
        psi = agreement_state.decode(state["psi"], torch.float64)
    root = v.sqrt() / s.root
    ratio = gate.noise_ratio(root, m, s.correction, s.eps)
    kappa = gate.gate(psi, s.strength, s.low, s.high, floor=floor)
    if group["cross_gate"] == "noise_ratio":
        kappa = gate.cross(kappa, ratio.clone(), s.threshold, s.sharpness)
    if group["neutral"] == "mean":
        kappa = kappa / kappa.mean()
    effective = kappa * float(group["lr"]) / (root + s.eps)
    update = effective * m / s.correction
    active = torch.ne(grad, 0)
    sums = {
        "count": torch.tensor(parameter.numel()),
        "active": active.sum(),
        "kappa": kappa.sum(),
        "kappa_square": kappa.square().sum(),
        "ratio": ratio.sum(),
        "effective": effective.sum(),
        "active_effective": effective[active].sum(),
        "update_square": update.square().sum(),
        "update_abs": update.abs().sum(),
        "parameter_square": parameter.detach().double().square().sum(),
        "psi_abs": psi.abs().sum(),
        "saturated": (psi.abs() >= SATURATED).sum(),
        "collision": (kappa.log().abs() * ratio).sum(),
    }
    extremes = (float(kappa.min()), float(kappa.max()), float(update.abs().max()))
    return {name: float(value) for name, value in sums.items()}, extremes
