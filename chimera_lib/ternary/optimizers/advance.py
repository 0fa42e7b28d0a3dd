"""One step of Chimera 2.1 on tensors: every path of the optimizer (one by one, in buckets, compiled) runs this."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from chimera_lib.ternary.optimizers import agreement_state, gate

__all__ = ["Kind", "Scalars", "advance"]

Scalar = float | Tensor
HALF = (torch.float16, torch.bfloat16)


class Kind(NamedTuple):
    """Which formulas are used; what a compiled step is compiled for."""

    agreement: str
    policy: str
    neutral: str
    cross_gate: str
    storage: str
    rounding: str


class Scalars(NamedTuple):
    """The numbers of a step: floats, or tensors of no dimensions where the step is captured or compiled."""

    gain: Scalar  # 1 - beta1
    beta2: Scalar
    gain2: Scalar  # 1 - beta2
    eps: Scalar
    rate: Scalar  # -lr / (1 - beta1^t)
    root: Scalar  # sqrt(1 - beta2^t)
    correction: Scalar  # 1 - beta1^t
    gain_psi: Scalar  # 1 - rho
    strength: Scalar  # lambda
    low: Scalar
    high: Scalar
    idle: Scalar
    threshold: Scalar
    sharpness: Scalar
    floor: Scalar
    root_inverse: Scalar  # used by the compiled step, where a product is cheaper than a quotient


def advance(
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    psi: Tensor,
    kind: Kind,
    scalars: Scalars,
    *,
    clip: bool = True,
    gentle: bool = False,
    noise: Tensor | None = None,
    lengths: list[int] | None = None,
) -> Tensor:
    """Advance m, v and ψ in place; return what is to be added to the parameter, a new tensor.

    Half-precision parameters keep m and v in their own dtype, as torch's AdamW does; the arithmetic is float32.

    Args:
        grad, m, v, psi: of one shape and device.
        gentle: for a compiled step, promises that |λ(ψ - floor)| is at most ``gate.GENTLE``.
        clip: False promises that exp(λψ) cannot leave [κmin, κmax].
        noise: numbers in (0, 1) for the stochastic rounding of int8 ψ.
        lengths: of the parameters that were put end to end, for ``neutral="mean"``; None if there is only one.
    """
    if m.dtype in HALF:
        wide_m, wide_v = m.float(), v.float()
        delta = advance(grad.float(), wide_m, wide_v, psi, kind, scalars, clip=clip, noise=noise, lengths=lengths)
        m.copy_(wide_m)
        v.copy_(wide_v)
        return delta
    s = scalars
    agree = gate.agreement_fused if isinstance(s.gain, Tensor) else gate.agreement
    if kind.agreement == "previous":
        agreed = agree(m, grad)
        gate.ease(m, grad, s.gain)
    else:
        gate.ease(m, grad, s.gain)
        agreed = agree(m, grad)
    if isinstance(s.beta2, Tensor):  # addcmul takes no tensor for its factor
        gate.ease(v, grad.square(), s.gain2)
    else:
        v.mul_(s.beta2).addcmul_(grad, grad, value=s.gain2)  # type: ignore[arg-type]
    read = psi
    if kind.storage == "int8":
        read = agreement_state.decode(psi, m.dtype)
        gate.average(read, agreed, grad, m, s.gain_psi, kind.policy, s.idle)
        codes = agreement_state.encode(read, noise)
        psi.copy_(codes)
        read = codes.div_(agreement_state.CODES)
    else:
        gate.average(psi, agreed, grad, m, s.gain_psi, kind.policy, s.idle)
    floor = s.floor if kind.neutral == "floor" else 0.0
    if gentle and not clip:
        kappa = gate.gate_fused(read, s.strength, s.floor if kind.neutral == "floor" else None)
    else:
        kappa = gate.gate(read, s.strength, s.low, s.high, clip=clip, floor=floor)
    root = v.sqrt().mul_(s.root_inverse) if isinstance(s.root_inverse, Tensor) else v.sqrt().div_(s.root)
    if kind.cross_gate == "noise_ratio":
        gate.cross(kappa, gate.noise_ratio(root, m, s.correction, s.eps), s.threshold, s.sharpness)
    if kind.neutral == "mean":
        _normalise(kappa, lengths)
    return kappa.mul_(m).mul_(s.rate).div_(root.add_(s.eps))


def _normalise(kappa: Tensor, lengths: list[int] | None) -> None:
    """Divide κ by its mean over each parameter, in place: the parameter's learning rate is then the nominal one."""
    parts = [kappa] if lengths is None else list(kappa.split(lengths))
    sums = torch._foreach_norm(parts, 1, dtype=torch.float64)  # κ is positive; one call for all
    if lengths is None:
        kappa.div_(sums[0] / kappa.numel())
    else:
        counts = torch.tensor(lengths, device=kappa.device)
        kappa.div_(torch.repeat_interleave((torch.stack(sums) / counts).to(kappa.dtype), counts))
