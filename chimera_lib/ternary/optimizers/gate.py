"""The gate of Chimera 2.1: agreement, its moving average ψ, the factor κ, and what all three are on pure noise.

Pure functions over tensors of any one shape. The optimizer that calls them is ``chimera21.py``; the numbers of this
page are drawn in the notebook ``ternary/01``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["AGREEMENTS", "CROSS_GATES", "NEUTRAL", "POLICIES", "agreement", "average", "cross", "ease"]
__all__ += ["agreement_fused", "expected_kappa", "gate", "gate_fused", "noise_floor", "noise_ratio"]

AGREEMENTS = ("current", "previous")  # with the sign of m_t (as published), or of m_{t-1}
POLICIES = ("standard", "freeze", "decay", "inertia")  # what ψ does where the gradient is exactly zero
NEUTRAL = ("off", "floor", "mean")  # what is done about the gate's bias
CROSS_GATES = ("off", "noise_ratio")

Scalar = float | Tensor  # a number, or a tensor of no dimensions where the step is captured or compiled


def agreement(momentum: Tensor, grad: Tensor) -> Tensor:
    """sign(m)·sign(g), in {-1, 0, 1}, a new tensor.

    The sign is taken of sign(m)·g, not of m·g, which is zero where the product of two small numbers underflows.
    """
    return momentum.sign().mul_(grad).sign_()


def agreement_fused(momentum: Tensor, grad: Tensor) -> Tensor:
    """The same in fewer instructions for a compiled step: sign(x) as clip(10³⁸x, ±1), exact but for subnormal x."""
    return (momentum * 1e38).clamp(-1, 1) * (grad * 1e38).clamp(-1, 1)


def ease(average: Tensor, towards: Tensor, weight: Scalar) -> Tensor:
    """Move an average by ``weight`` of the way, in place; ``Tensor.lerp_`` takes no float64 weight for float32."""
    return (
        average.add_((towards - average).mul_(weight)) if isinstance(weight, Tensor) else average.lerp_(towards, weight)
    )


def average(
    psi: Tensor, agreed: Tensor, grad: Tensor, momentum: Tensor, gain: Scalar, policy: str, idle: Scalar
) -> Tensor:
    """ψ ← rho·ψ + (1-rho)a in place, and what the zero-gradient ``policy`` says where g = 0.

    ``gain`` is 1-rho, which a float32 tensor could not give back from rho.

    ``standard`` rho·ψ; ``freeze`` ψ; ``decay`` ψ·``idle``; ``inertia`` rho·ψ + (1-rho)·sign(m)².
    Policies act on ψ only.
    """
    if policy == "standard":  # a is zero where g is
        return ease(psi, agreed, gain)
    zero = grad == 0
    if policy == "inertia":
        return ease(psi, torch.where(zero, momentum.sign().square_(), agreed), gain)
    kept = psi.clone() if policy == "freeze" else psi * idle
    return psi.copy_(torch.where(zero, kept, ease(psi, agreed, gain)))


def gate(psi: Tensor, strength: Scalar, low: Scalar, high: Scalar, *, clip: bool = True, floor: Scalar = 0.0) -> Tensor:
    """κ = clip(exp(λ(ψ - floor)), κmin, κmax), a new tensor; ``clip=False`` where the bounds cannot bind."""
    shifted = psi if isinstance(floor, float) and floor == 0.0 else psi - floor
    kappa = torch.mul(shifted, strength).exp_()
    return kappa.clamp_(low, high) if clip else kappa  # type: ignore[arg-type]  # two numbers, or two tensors


GENTLE = 0.35  # bound on |λ(ψ - floor)| up to which the polynomial below is exp to 10⁻⁹


def gate_fused(psi: Tensor, strength: Scalar, floor: Scalar | None) -> Tensor:
    """κ for a compiled step whose exponent is gentle and whose bounds cannot bind: exp by its series to x⁷/7!."""
    x = (psi if floor is None else psi - floor) * strength
    kappa = x * (1 / 5040) + 1 / 720
    for factorial in (120, 24, 6, 2, 1, 1):
        kappa = kappa * x + 1 / factorial
    return kappa


def noise_ratio(root: Tensor, momentum: Tensor, correction: Scalar, eps: Scalar) -> Tensor:
    """n = √v̂/(|m̂|+ε), a new tensor; ``root`` is √v̂, ``momentum`` m, and ``correction`` 1-β₁ᵗ."""
    return root / (momentum.abs().div_(correction).add_(eps))


def cross(kappa: Tensor, ratio: Tensor, threshold: Scalar, sharpness: Scalar) -> Tensor:
    """κ ← 1 + sigmoid(s(τ - n))(κ - 1) in place: the gate closes where the noise ratio n exceeds τ."""
    return kappa.sub_(1).mul_(torch.sigmoid((threshold - ratio).mul_(sharpness))).add_(1)


def noise_floor(beta1: float, step: int | None = None, *, agreement: str = "current") -> float:
    """E sign(m_t)·sign(g_t) when the gradients are independent and symmetric Gaussian noise.

    m_t = Σ (1-β₁)β₁^(t-s) g_s holds g_t itself, with weight 1-β₁, so that the two are correlated:
    cov(m_t, g_t) = (1-β₁)s² and var m_t = (1-β₁)²s²(1-β₁^(2t))/(1-β₁²) for gradients of variance s², hence
    r_t = √((1-β₁²)/(1-β₁^(2t))), which is 1 at t = 1 and falls to √(1-β₁²). For two Gaussians of correlation r,
    E sign·sign = (2/π)·asin r (Sheppard 1899). Hence (2/π)·asin √(1-β₁²) = 0.287 for β₁ = 0.9; ψ, a weighted mean
    of agreements, has the same limit. m_{t-1} does not hold g_t: the floor of ``agreement="previous"`` is 0.

    Args:
        beta1: in [0, 1).
        step: t ≥ 1, or None for the limit.
        agreement: ``"current"`` or ``"previous"``.

    >>> round(noise_floor(0.9), 3), noise_floor(0.9, 1), noise_floor(0.9, agreement="previous")
    (0.287, 1.0, 0.0)
    """
    if not 0 <= beta1 < 1:
        raise ValueError(f"beta1={beta1}: expected 0 <= beta1 < 1")
    if agreement not in AGREEMENTS:
        raise ValueError(f"agreement={agreement!r}: expected one of {', '.join(AGREEMENTS)}")
    if step is not None and step < 1:
        raise ValueError(f"step={step}: expected at least 1, or None for the limit")
    if agreement == "previous":
        return 0.0
    seen = 1.0 if step is None else 1 - beta1 ** (2 * step)
    return 2 / math.pi * math.asin(math.sqrt((1 - beta1**2) / seen))


def expected_kappa(strength: float, beta1: float, *, agreement: str = "current") -> float:
    """E κ on pure noise to the first order in λ, exp(λ·floor): by so much the gate raises Adam's learning rate.

    The next term, exp(λ² var ψ / 2), adds less than 2·10⁻⁴ at the defaults.

    >>> round(expected_kappa(0.1, 0.9), 3)
    1.029
    """
    return math.exp(strength * noise_floor(beta1, agreement=agreement))
