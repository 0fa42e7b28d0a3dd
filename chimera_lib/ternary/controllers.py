"""Aim a network's share of zero weights: from bits to a zero ratio, by steps (as published), or at once.

A controller acts on layers of the ``chimera`` quantizer, whose threshold is alpha gamma; its state is the alphas in the
layers' buffers, which a ``state_dict`` holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import NothingToControl
from chimera_lib.ternary.quantizers.protocol import exact
from chimera_lib.ternary.quantizers.statistics import MOST_BITS, by_layer, entropy, pooled, quantized
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer, checked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chimera_lib.ternary.quantizers.statistics import Statistics

BRANCHES = {"sparse": (1 / 3, 1.0), "dense": (0.0, 1 / 3)}  # zero ratios on either side of the entropy's maximum
AFFECTS = ("alpha_target", "alpha_override")
FREQUENCIES = ("epoch", "batch")


def symmetric_bits(zero_ratio: float) -> float:
    """Entropy in bits of a zero ratio z in [0, 1] with as many ones as minus ones: H = h(z, (1-z)/2, (1-z)/2)."""
    return entropy(zero_ratio, (1 - zero_ratio) / 2, (1 - zero_ratio) / 2)


def zero_ratio_for(target_bits: float, *, branch: str = "sparse") -> float:
    """The symmetric zero ratio whose entropy is ``target_bits``, by bisection to the last bit of a float.

    H rises from 1 bit at z = 0 to log2 3 = 1.585 at z = 1/3 (``"dense"``) and falls from there to 0 at z = 1
    (``"sparse"``). Hence 1.32 bits are z = .63038 on the sparse branch. Raises ValueError outside the branch's range;
    0 bits, all weights zero, are outside of the sparse one.
    """
    if branch not in BRANCHES:
        raise ValueError(f"branch={branch!r}: expected 'sparse' (zero ratio 1/3 to 1) or 'dense' (0 to 1/3)")
    # On either branch, from the end of fewest bits to that of most.
    few, many = (1.0, 1 / 3) if branch == "sparse" else (0.0, 1 / 3)
    least = symmetric_bits(few)
    if not (least <= target_bits <= MOST_BITS and target_bits > 0):
        lower = "more than 0 (there every weight is zero)" if branch == "sparse" else f"{least:g} (there none is zero)"
        other = ", or branch='sparse'" if branch == "dense" and 0 < target_bits < least else ""
        raise ValueError(
            f"target_bits={target_bits}: the {branch} branch has {lower} to log2 3 = {MOST_BITS:.4f} bits; "
            f"choose a number between{other}"
        )
    while (middle := (few + many) / 2) not in (few, many):
        few, many = (middle, many) if symmetric_bits(middle) < target_bits else (few, middle)
    return many


@dataclass(frozen=True)
class Control:
    """One update of the alphas; means are over layers, each counting once.

    ``control`` is the mean of what the controller affects, before, ``following`` the same afterwards.
    """

    zero_ratio: float  # global: every weight counts once
    error: float  # zero_ratio - target
    update_delta: float  # what was added to the alphas, before clamping (bang-bang), or the mean change (one-shot)
    used: float
    target: float
    control: float
    following: float

    def record(self) -> dict[str, float]:
        """The fields of a log line."""
        names = {
            "controller_error": self.error,
            "controller_update_delta": self.update_delta,
            "alpha_used_mean": self.used,
            "alpha_target_mean": self.target,
            "alpha_control_mean": self.control,
            "alpha_next_mean": self.following,
        }
        return {"global_zero_ratio": self.zero_ratio, **names}


class BangBang:
    """The published controller: an error beyond the tolerance moves every layer's alpha by one step.

    Args:
        target_zero_ratio: share of zeros to reach over all weights, in (0, 1); see ``zero_ratio_for``.
        tolerance: largest error that leaves the alphas alone.
        step: by which they fall where there are too many zeros, and rise where there are too few.
        low, high: they are kept between these.
        affects: ``"alpha_target"``, on which the warm-up ends, or ``"alpha_override"``, which acts in the next forward.
        frequency: ``"epoch"`` or ``"batch"``: after which of the two ``after`` acts.

    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        target_zero_ratio: float,
        *,
        tolerance: float = 0.02,
        step: float = 0.05,
        low: float = 0.0,
        high: float = 1.5,
        affects: str = "alpha_target",
        frequency: str = "epoch",
    ) -> None:
        self.target_zero_ratio = checked_ratio(target_zero_ratio)
        for name, value in (("tolerance", tolerance), ("step", step)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: expected a finite number >= 0")
        if not checked("low", low) <= checked("high", high):
            raise ValueError(f"low={low}, high={high}: expected low <= high")
        if frequency not in FREQUENCIES:
            raise ValueError(f"frequency={frequency!r}: expected 'epoch' or 'batch'")
        self.tolerance, self.step, self.low, self.high = tolerance, step, low, high
        self.affects, self.frequency = checked_affects(affects), frequency

    def after(self, event: str, model: nn.Module) -> Control | None:
        """``update(model)`` where ``event`` (``"epoch"`` or ``"batch"``) is this controller's frequency, else None."""
        if event not in FREQUENCIES:
            raise ValueError(f"event={event!r}: expected 'epoch' or 'batch'")
        return self.update(model) if event == self.frequency else None

    def update(self, model: nn.Module) -> Control:
        """Compare the zeros that the last forward saw with the target, and move the alphas. Raises NothingToControl."""
        error = pooled(thresholded(model).values()).zero_ratio - self.target_zero_ratio
        delta = 0.0 if abs(error) <= self.tolerance else math.copysign(self.step, -error)
        moved = [min(max(controlled(q, self.affects) + delta, self.low), self.high) for _, _, q in thresholds(model)]
        return apply(model, moved, self.affects, error, delta)


def one_shot(model: nn.Module, target_zero_ratio: float, *, affects: str = "alpha_override") -> Control:
    """Give every layer the alpha at which its share of zeros is the target: alpha = quantile(|W| / gamma, z).

    Exact to one weight where magnitudes do not tie, at once and in every layer, where bang-bang moves all by the same
    step until the network's average is near. gamma is that of the last training forward. ``alpha_override`` acts in
    the next forward, ``alpha_target`` when the warm-up is over. Raises NothingToControl, ValueError.
    """
    checked_ratio(target_zero_ratio)
    error = pooled(thresholded(model).values()).zero_ratio - target_zero_ratio
    alphas = [quantile_alpha(q, weight, target_zero_ratio) for _, weight, q in thresholds(model)]
    before = [controlled(q, checked_affects(affects)) for _, _, q in thresholds(model)]
    return apply(model, alphas, affects, error, mean(alphas) - mean(before))


@torch.no_grad()
def quantile_alpha(quantizer: ThresholdQuantizer, weight: Tensor, zero_ratio: float) -> float:
    """The alpha at which ``zero_ratio`` of ``weight`` becomes zero, to within half a weight."""
    full = exact(weight)
    relative = (full.abs() / quantizer.gamma(full)).flatten()
    zeros = round(zero_ratio * relative.numel())
    if zeros == 0:
        return 0.0
    below = float(relative.kthvalue(zeros).values)
    # Half way to the next weight: no rounding of alpha or alpha gamma then moves one across.
    above = float(relative.kthvalue(zeros + 1).values) if zeros < relative.numel() else below * 1.01
    return (below + above) / 2


def thresholds(model: nn.Module) -> list[tuple[str, Tensor, ThresholdQuantizer]]:
    """Name, weight and quantizer of every layer that has a threshold. Raises NothingToControl where there is none."""
    found = [(name, weight, q) for name, weight, q in quantized(model) if isinstance(q, ThresholdQuantizer)]
    if not found:
        raise NothingToControl(
            f"{type(model).__name__} has no layer with a threshold; convert(model, mode='chimera') makes them"
        )
    return found


def thresholded(model: nn.Module) -> dict[str, Statistics]:
    """Statistics of the layers of ``thresholds``."""
    names = {name for name, _, _ in thresholds(model)}
    return {name: counts for name, counts in by_layer(model).items() if name in names}


def controlled(quantizer: ThresholdQuantizer, affects: str) -> float:
    """The alpha that a controller moves; for an override that is unset, the one in use."""
    if affects == "alpha_target":
        return quantizer.alpha_target
    return quantizer.alpha_used if quantizer.alpha_override is None else quantizer.alpha_override


def apply(model: nn.Module, alphas: list[float], affects: str, error: float, delta: float) -> Control:
    """Set the layers' alphas, and say what was and what is now."""
    layers = [quantizer for _, _, quantizer in thresholds(model)]
    before = Control(
        zero_ratio=pooled(thresholded(model).values()).zero_ratio,
        error=error,
        update_delta=delta,
        used=mean([q.alpha_used for q in layers]),
        target=mean([q.alpha_target for q in layers]),
        control=mean([controlled(q, affects) for q in layers]),
        following=mean(alphas),
    )
    for quantizer, alpha in zip(layers, alphas, strict=True):
        setattr(quantizer, affects, alpha)
    return before


def mean(values: list[float]) -> float:
    """Arithmetic mean of one or more values."""
    return math.fsum(values) / len(values)


def checked_ratio(zero_ratio: float) -> float:
    """``zero_ratio``, where it leaves some weights and takes some. Raises ValueError."""
    if not 0 < zero_ratio < 1:
        raise ValueError(
            f"target_zero_ratio={zero_ratio}: expected a share between 0 and 1; zero_ratio_for(1.32) is .63"
        )
    return zero_ratio


def checked_affects(affects: str) -> str:
    """``affects``, where a quantizer has an alpha of that name. Raises ValueError."""
    if affects not in AFFECTS:
        raise ValueError(f"affects={affects!r}: expected 'alpha_target' or 'alpha_override'")
    return affects
