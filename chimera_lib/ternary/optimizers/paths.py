"""The two ways a step of Chimera 2.1 goes: a bucket of small parameters together, or a parameter alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from chimera_lib.ternary.optimizers import agreement_state, compiled, gate
from chimera_lib.ternary.optimizers.advance import Kind, Scalars, advance
from chimera_lib.ternary.optimizers.buckets import Bucket, blocks, places

__all__ = ["alone", "initialise", "kind_of", "restore", "scalars_of", "together"]


def initialise(parameter: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    """Fill in what a parameter's state lacks: all of it, or ψ alone if it was an AdamW's."""
    where = parameter.device if group["capturable"] else torch.device("cpu")
    wide = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
    state.setdefault("step", torch.zeros((), dtype=wide, device=where))
    for name in ("exp_avg", "exp_avg_sq"):
        if name not in state:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    if "psi" not in state:
        state["psi"] = agreement_state.new(parameter, group["psi_storage"])
    if group["neutral"] == "floor":
        state.setdefault("psi_floor", torch.zeros((), dtype=torch.float64, device=where))


def restore(parameter: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    """Make a loaded state fit to be stepped: entries on their devices, ψ as it was saved."""
    where = parameter.device if group["capturable"] else torch.device("cpu")
    if not isinstance(state["step"], Tensor):
        state["step"] = torch.tensor(float(state["step"]), dtype=torch.float32, device=where)
    for name, device in (("psi", parameter.device), ("psi_floor", where)):
        if isinstance(state.get(name), agreement_state.Uncast):
            state[name] = state[name].value.to(device)


def kind_of(group: dict[str, Any]) -> Kind:
    """Which formulas a group uses."""
    names = ("agreement", "zero_gradient", "neutral", "cross_gate", "psi_storage", "psi_rounding")
    return Kind(*(group[name] for name in names))


def scalars_of(group: dict[str, Any], step: float | Tensor, floor: float | Tensor) -> Scalars:
    """The numbers of a group's step t ≥ 1: floats, but tensors on its device where ``step`` is one."""
    beta1, beta2 = group["betas"]
    correction, second = 1 - beta1**step, 1 - beta2**step
    lr = group["lr"] if isinstance(step, Tensor) else float(group["lr"])
    return Scalars(
        gain=1 - beta1,
        beta2=beta2,
        gain2=1 - beta2,
        eps=group["eps"],
        rate=-lr / correction,
        root=second**0.5,
        correction=correction,
        gain_psi=1 - group["rho_psi"],
        strength=group["lambda_gate"],
        low=group["kappa"][0],
        high=group["kappa"][1],
        idle=group["idle_decay"],
        threshold=group["noise_threshold"],
        sharpness=group["gate_sharpness"],
        floor=floor,
        root_inverse=1.0,
    )


def _floor(group: dict[str, Any], previous: float | Tensor, step: float | Tensor) -> float | Tensor:
    """What ψ is on noise after ``step``, by the recurrence of ψ itself, so that a schedule of β₁ is followed."""
    beta1, rho = group["betas"][0], group["rho_psi"]
    if isinstance(step, Tensor) and group["agreement"] == "current":
        correlation = ((1 - beta1**2) / (1 - beta1 ** (2 * step.double()))).sqrt().clamp(max=1)
        return rho * previous + (1 - rho) * 2 / math.pi * correlation.asin()
    at = gate.noise_floor(beta1, 1 if isinstance(step, Tensor) else int(step), agreement=group["agreement"])
    return rho * previous + (1 - rho) * at


def _reach(group: dict[str, Any]) -> float:
    """A bound on |λ(ψ - floor)|: both |ψ| and the floor are at most 1."""
    return abs(group["lambda_gate"]) * (2.0 if group["neutral"] == "floor" else 1.0) * (1 + 1e-5)


def _clips(group: dict[str, Any]) -> bool:
    """Whether exp(λ(ψ - floor)) can leave [κmin, κmax]."""
    reach, (low, high) = _reach(group), group["kappa"]
    return math.exp(min(reach, 700.0)) > high or math.exp(-reach) < low


def _draws(kind: Kind) -> bool:
    return (kind.storage, kind.rounding) == ("int8", "stochastic")


def _compiled(group: dict[str, Any], kind: Kind, like: Tensor) -> compiled.Kernel | None:
    """The fused step for a tensor, if it is asked for and can be had; half precision is stepped uncompiled."""
    wanted = group["compiled"] and like.dtype in {torch.float32, torch.float64}
    if not wanted:
        return None
    return compiled.kernel(kind, str(like.device), _clips(group), _reach(group) <= gate.GENTLE)


def together(group: dict[str, Any], bucket: Bucket) -> None:
    """Step the parameters of a bucket, which holds their gradients."""
    flat, kind = bucket.flat, kind_of(group)
    flat["step"] += 1
    step = bucket.common("step") or 1.0
    floor = 0.0
    if "psi_floor" in flat:
        floor = float(_floor(group, bucket.common("psi_floor") or 0.0, step))
        flat["psi_floor"].fill_(floor)
    scalars = scalars_of(group, step, floor)
    key = agreement_state.stream(group["seed"], step) if _draws(kind) else None
    state = (flat["exp_avg"], flat["exp_avg_sq"], flat["psi"])
    numbered = None if key is None else bucket.places()
    fused = _compiled(group, kind, bucket.parameters[0])
    if fused is not None:
        fused(bucket.grad, bucket.grad, *state, compiled.numbers(scalars, 1.0, bucket.grad.dtype), numbered, key)
    else:
        parts = (bucket.grad, *state) if numbered is None else (bucket.grad, *state, numbered)
        lengths = bucket.lengths if kind.neutral == "mean" else None
        for grad, m, v, psi, *index in blocks(parts) if lengths is None else [parts]:
            noise = None if key is None else agreement_state.uniform(index[0].clone(), key.to(grad.device))
            clip = _clips(group)
            grad.copy_(advance(grad, m, v, psi, kind, scalars, clip=clip, noise=noise, lengths=lengths))
    if group["weight_decay"] != 0:
        torch._foreach_mul_(bucket.parameters, 1 - float(group["lr"]) * group["weight_decay"])
    torch._foreach_add_(bucket.parameters, bucket.grads)


def alone(group: dict[str, Any], parameter: Tensor, grad: Tensor, state: dict[str, Any], offset: int) -> None:
    """Step one parameter; ``offset`` is the number of elements of the optimizer before it."""
    kind, step = kind_of(group), state["step"]
    step += 1
    if not group["capturable"]:
        step = step.item()
    floor: float | Tensor = 0.0
    if kind.neutral == "floor":
        state["psi_floor"].copy_(torch.as_tensor(_floor(group, state["psi_floor"], step)))
        floor = state["psi_floor"] if group["capturable"] else state["psi_floor"].item()
    scalars = scalars_of(group, step, floor)
    key = agreement_state.stream(group["seed"], step).to(grad.device) if _draws(kind) else None
    numbered = None if key is None else places(offset, grad.numel(), grad.device).view(grad.shape)
    decay = 1 - (group["lr"] if group["capturable"] else float(group["lr"])) * group["weight_decay"]
    parts = [parameter, grad, state["exp_avg"], state["exp_avg_sq"], state["psi"]]
    parts += [] if numbered is None else [numbered]
    fused = _compiled(group, kind, parameter)
    if fused is not None and all(part.is_contiguous() for part in parts):
        flat = [part.detach().view(-1) for part in parts]
        flat[1] = flat[1].neg() if group["maximize"] else flat[1]
        fused(*flat[:5], compiled.numbers(scalars, decay, parameter.dtype), flat[5] if key is not None else None, key)
        return
    clip = _clips(group)
    for target, slope, m, v, psi, *index in [tuple(parts)] if kind.neutral == "mean" else blocks(parts):
        noise = None if key is None else agreement_state.uniform(index[0].clone(), key)
        if group["weight_decay"] != 0:
            target.mul_(decay)
        slope = slope.neg() if group["maximize"] else slope
        target.add_(advance(slope, m, v, psi, kind, scalars, clip=clip, noise=noise))
