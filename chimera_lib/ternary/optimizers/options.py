"""The options of Chimera 2.1 and what each may be."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from chimera_lib.ternary.optimizers import agreement_state, gate

__all__ = ["DEFAULTS", "check"]

DEFAULTS: dict[str, Any] = {
    "lr": 1e-3,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "rho_psi": 0.95,
    "lambda_gate": 0.1,
    "kappa": (0.5, 2.0),
    "agreement": "current",
    "neutral": "off",
    "zero_gradient": "standard",
    "idle_decay": 0.95,
    "cross_gate": "off",
    "noise_threshold": 2.0,
    "gate_sharpness": 4.0,
    "psi_storage": "fp32",
    "psi_rounding": "stochastic",
    "seed": 0,
    "maximize": False,
    "foreach": None,
    "compiled": False,
    "capturable": False,
    "differentiable": False,
    "check_finite": None,
    "diagnostics": False,
}
CHOICES = {
    "agreement": gate.AGREEMENTS,
    "neutral": gate.NEUTRAL,
    "zero_gradient": gate.POLICIES,
    "cross_gate": gate.CROSS_GATES,
    "psi_storage": agreement_state.STORAGES,
    "psi_rounding": agreement_state.ROUNDINGS,
}
AT_LEAST_ZERO = ("lr", "eps", "weight_decay")
FRACTIONS = ("rho_psi", "idle_decay")  # in [0, 1]
FINITE = ("lambda_gate", "noise_threshold", "gate_sharpness")


def check(group: dict[str, Any]) -> None:
    """Bring a group's options into their one form (``neutral=True`` is ``"floor"``), or say what is wrong with one.

    Raises:
        ValueError: a value out of its range or a name that is not known, or options that exclude each other.
    """
    group["neutral"] = {True: "floor", False: "off"}.get(group["neutral"], group["neutral"])
    _check_numbers(group)
    for name, known in CHOICES.items():
        if group[name] not in known:
            raise ValueError(f"{name}={group[name]!r}: expected one of {', '.join(map(repr, known))}")
    if group["differentiable"]:
        raise ValueError("differentiable=True: the gate is a step function of the gradient; expected False")
    if group["foreach"] and group["capturable"]:
        group["foreach"] = None  # one captured graph launches as one; steps on the device cannot be compared
    if group["compiled"]:
        for name, value, why in (
            ("neutral", "mean", "the mean of κ is taken over each parameter"),
            ("capturable", True, "a compiled step reads its numbers from the host"),
        ):
            if group[name] == value:
                raise ValueError(f"compiled=True with {name}={value!r}: {why}; expected one of the two only")


def _check_numbers(group: dict[str, Any]) -> None:
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr is a tensor of {lr.numel()} elements: expected one element")
    for name in AT_LEAST_ZERO:
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name}={group[name]}: expected a finite number of at least 0")
    betas = tuple(float(beta) for beta in group["betas"])
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={group['betas']}: expected two numbers in [0, 1)")
    group["betas"] = betas
    for name in FRACTIONS:
        if not 0 <= group[name] <= 1:
            raise ValueError(f"{name}={group[name]}: expected a number in [0, 1]")
    for name in FINITE:
        if not math.isfinite(group[name]):
            raise ValueError(f"{name}={group[name]}: expected a finite number")
    kappa = tuple(float(bound) for bound in group["kappa"])
    if len(kappa) != 2 or not 0 < kappa[0] <= kappa[1] < math.inf:
        raise ValueError(
            f"kappa={group['kappa']}: expected two numbers (kappa_min, kappa_max), 0 < kappa_min <= kappa_max"
        )
    group["kappa"] = kappa
    if not isinstance(group["seed"], int) or group["seed"] < 0:
        raise ValueError(f"seed={group['seed']!r}: expected a whole number of at least 0")
