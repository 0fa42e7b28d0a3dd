"""Directions to leave an image in, and the points along them, in the network's own float32 input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import UnknownName
from chimera_lib.images.search.protocol import GRADIENT_COST, Budget, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

ULP = 2.0**-24  # spacing of the float32 numbers from 1/2 to 1, the upper half of the pixels' range
LEVEL = 1 / 255 / ULP  # one 8-bit brightness step, in ULP: 65,793


def gap_gradient(model: nn.Module, image: np.ndarray) -> np.ndarray:
    """Change of the top-two logit gap per unit of input, float64 (H, W, C), at an image uint8 (H, W, C)."""
    effect = Probe(model, None, Budget(evaluations=GRADIENT_COST)).gap_gradient(image)[2]
    return effect * 255


def one_value(gradient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A single value of the image, drawn at random, moves up."""
    direction = np.zeros(gradient.shape)
    direction.flat[rng.integers(gradient.size)] = 1.0
    return direction


def random(gradient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every value moves by the same amount, up or down at random."""
    return rng.choice([-1.0, 1.0], gradient.shape)


def along_gradient(gradient: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Every value moves by the same amount, towards a larger gap: the steepest way for its largest change."""
    return np.sign(gradient)


def tangent(gradient: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random direction without its component along the gradient, so that the gap stays to first order.

    float32 resolves it from some tens of ULP on: what is taken off each value is a small part of its step, and the
    rounding of shorter steps loses it, which leaves a random direction.
    """
    direction = random(gradient, rng)
    return direction - gradient * (gradient * direction).sum() / max((gradient * gradient).sum(), 1e-300)


DIRECTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "one value": one_value,
    "random": random,
    "gradient": along_gradient,
    "tangent": tangent,
}


def direction(name: str) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """``(gradient (H, W, C), generator) -> direction (H, W, C)`` by name; raises UnknownName."""
    if name not in DIRECTIONS:
        raise UnknownName("direction", name, DIRECTIONS)
    return DIRECTIONS[name]


def points(image: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Inputs float32 (N, H, W, C): ``image`` uint8 (H, W, C) / 255 plus each of ``moves`` (N, H, W, C), in ULP.

    The sum is rounded once. Nothing is clipped: a few ULP below black or above white are inputs as any other.
    """
    start = (image.astype(np.float32) / np.float32(255)).astype(np.float64)
    return (start + moves * ULP).astype(np.float32)
