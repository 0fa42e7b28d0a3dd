"""Weights of a trained network, and what each threshold makes of them."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING, NamedTuple

import torch

from chimera_lib.ternary.quantizers.statistics import count
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


class Point(NamedTuple):
    """A layer at one alpha: share of zeros, entropy of the codes in bits, relative squared errors, optimal scale.

    Errors are |W - s q|^2 / |W|^2; ``scale`` is the optimal one in units of gamma = mean|W|.
    """

    alpha: float
    zero_ratio: float
    effective_bits: float
    error_gamma: float
    error_optimal: float
    scale: float


def trained_resnet20() -> dict[str, Tensor]:
    """The convolution weights of the ResNet-20 that the project trained on CIFAR-10, without the stem; float32.

    They are in full precision and were trained without any quantizer (its card lies beside the file).
    """
    from safetensors.torch import load_file

    with importlib.resources.as_file(
        importlib.resources.files("chimera_lib") / "weights" / "resnet20.safetensors"
    ) as path:
        state = load_file(path)
    return {name: value for name, value in state.items() if value.dim() == 4 and not name.startswith("stem.")}


@torch.no_grad()
def point(weight: Tensor, alpha: float) -> Point:
    """Quantise ``weight`` at a threshold of ``alpha`` mean|W|, with either scale. Raises ValueError for a bad alpha."""
    made = {
        scale: ThresholdQuantizer(weight, alpha_override=alpha, scale=scale).trits(weight)
        for scale in ("gamma", "optimal")
    }
    square = weight.double().square().sum()
    errors = [float((weight.double() - one.values().double()).square().sum() / square) for one in made.values()]
    counts = count(made["gamma"].codes)
    scale = float(made["optimal"].plus / weight.abs().mean())
    return Point(alpha, counts.zero_ratio, counts.effective_bits, errors[0], errors[1], scale)


def sweep(weights: Mapping[str, Tensor], alphas: Iterable[float]) -> dict[str, list[Point]]:
    """Every layer at every alpha."""
    alphas = [float(alpha) for alpha in alphas]
    return {name: [point(weight, alpha) for alpha in alphas] for name, weight in weights.items()}


def excess_kurtosis(weight: Tensor) -> float:
    """E(W - mean)^4 / Var(W)^2 - 3: 0 for a Gaussian, 3 for a Laplace distribution."""
    centred = weight.double() - weight.double().mean()
    return float(centred.pow(4).mean() / centred.square().mean().square() - 3)


def in_gammas(weights: Iterable[Tensor]) -> Tensor:
    """All weights in one dimension, each layer's divided by its own mean magnitude."""
    return torch.cat([(weight / weight.abs().mean()).flatten() for weight in weights])
