"""Four small problems that stress an optimizer: missing inputs, dead units, noise, and saddle points.

Every random number is a function of a seed, of what it is for and of the step, never of what was drawn before, so
that all optimizers see the same batches and the same noise. An optimizer is judged by ``evaluate``: the objective
without its noise, on inputs that no step has seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PROBLEMS", "NoisyQuadratic", "Problem", "Regression", "Saddle", "SparseRelu", "make"]

INPUTS, HIDDEN = 10, 8
BATCH, HELD_OUT = 32, 512
TARGET_NOISE = 0.1  # standard deviation added to the targets of the training batches
STREAMS = ("weights", "teacher", "held out", "step")


def generator(stream: str, seed: int, step: int = 0) -> torch.Generator:
    """The generator of one purpose (``STREAMS``), seed and step, on the CPU."""
    mixed = (STREAMS.index(stream) + 1) * 0x85EBCA77 + (seed + 1) * 0x9E3779B1 + (step + 1) * 0xC2B2AE3D
    return torch.Generator().manual_seed(mixed & 0xFFFFFFFF)  # torch's CPU generator keeps 32 bits of a seed


def check(*, sparsity: float = 0.0, noise_scale: float = 0.0) -> None:
    """Raise ChimeraError where an option of a problem is out of range."""
    if not 0 <= sparsity < 1:
        raise ChimeraError(f"sparsity {sparsity}: expected a share of at least 0 and less than 1")
    if not 0 <= noise_scale < math.inf:
        raise ChimeraError(f"noise scale {noise_scale}: expected a finite number of at least 0")


class Problem:
    """An objective over the weights of a network of 10 inputs, 8 hidden units and 1 output.

    Args:
        seed: of data and noise, at least 0.
        init_seed: of the weights, at least 0.

    Attributes:
        parameters: four leaves in float32: weights (8, 10), biases (8,), weights (1, 8), bias (1,).
    """

    def __init__(self, seed: int, init_seed: int) -> None:
        self.seed = seed
        drawn = generator("weights", init_seed)
        self.parameters = [nn.Parameter(each) for each in self._weights(drawn, scale=1.0)]

    def _weights(self, drawn: torch.Generator, scale: float) -> list[Tensor]:
        """Uniform in ±scale/√inputs, as torch's Linear draws them."""
        shapes = (((HIDDEN, INPUTS), INPUTS), ((HIDDEN,), INPUTS), ((1, HIDDEN), HIDDEN), ((1,), HIDDEN))
        return [(torch.rand(shape, generator=drawn) * 2 - 1) * (scale * fan**-0.5) for shape, fan in shapes]

    def loss(self, step: int) -> Tensor:
        """The objective as an optimizer sees it at a step: with that step's batch or noise. A scalar with a graph."""
        raise NotImplementedError

    def evaluate(self) -> float:
        """The objective without noise, at least 0; NaN or infinite where the weights are."""
        raise NotImplementedError


class Regression(Problem):
    """Fit a network of the same shape (its weights six times as wide) where each third input is always zero.

    The weights of those inputs, 40 % of the first layer, get a gradient of exactly zero at every step.
    """

    activation: Callable[[Tensor], Tensor] = staticmethod(torch.tanh)
    teacher_scale = 6.0

    def __init__(self, seed: int, init_seed: int) -> None:
        super().__init__(seed, init_seed)
        self.teacher = self._weights(generator("teacher", seed), self.teacher_scale)
        self.held_out = self.inputs(HELD_OUT, generator("held out", seed))  # (512, 10)
        self.held_out_targets = self._predict(self.held_out, self.teacher)  # (512, 1)

    def inputs(self, count: int, drawn: torch.Generator) -> Tensor:
        """Inputs, float32 (count, 10)."""
        x = torch.randn(count, INPUTS, generator=drawn)
        x[:, ::3] = 0
        return x

    def _predict(self, x: Tensor, weights: list[Any]) -> Tensor:
        first, bias, second, last = weights
        return functional.linear(self.activation(functional.linear(x, first, bias)), second, last)

    def loss(self, step: int) -> Tensor:
        """Mean squared error on the step's own 32 inputs, whose targets are noisy."""
        drawn = generator("step", self.seed, step)
        x = self.inputs(BATCH, drawn)
        y = self._predict(x, self.teacher) + TARGET_NOISE * torch.randn(BATCH, 1, generator=drawn)
        return functional.mse_loss(self._predict(x, self.parameters), y)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Mean squared error on 512 other inputs, against targets without noise."""
        return float(functional.mse_loss(self._predict(self.held_out, self.parameters), self.held_out_targets))


class SparseRelu(Regression):
    """The same with ReLU, hidden biases that start at -0.75, and a share of the inputs set to zero at random.

    Nearly all hidden units start silent, so that most gradients are exactly zero and come back now and then.

    Args:
        sparsity: share of inputs set to zero, in [0, 1).
    """

    activation = staticmethod(torch.relu)

    def __init__(self, seed: int, init_seed: int, sparsity: float = 0.7) -> None:
        check(sparsity=sparsity)
        self.sparsity = sparsity
        super().__init__(seed, init_seed)

    def _weights(self, drawn: torch.Generator, scale: float) -> list[Tensor]:
        weights = super()._weights(drawn, scale)
        weights[1].fill_(-0.75)
        return weights

    def inputs(self, count: int, drawn: torch.Generator) -> Tensor:
        """Inputs, float32 (count, 10)."""
        x = torch.randn(count, INPUTS, generator=drawn)
        return x * (torch.rand(count, INPUTS, generator=drawn) >= self.sparsity)


class NoisyQuadratic(Problem):
    """Σ mean(½p²) + mean(p·noise) over the parameters: each gradient is p plus noise, over the parameter's size.

    Args:
        noise_scale: standard deviation of the noise, at least 0; the weights start within ±0.35.
    """

    def __init__(self, seed: int, init_seed: int, noise_scale: float = 1.0) -> None:
        check(noise_scale=noise_scale)
        super().__init__(seed, init_seed)
        self.noise_scale = noise_scale

    def loss(self, step: int) -> Tensor:
        """The quadratic and the step's own noise."""
        drawn = generator("step", self.seed, step)
        terms = []
        for p in self.parameters:
            noise = self.noise_scale * torch.randn(p.shape, generator=drawn)
            terms.append((p * (0.5 * p + noise)).mean())
        return torch.stack(terms).sum()

    @torch.no_grad()
    def evaluate(self) -> float:
        """The quadratic alone: 0 at its minimum."""
        return float(sum(0.5 * p.square().mean() for p in self.parameters))


class Saddle(Regression):
    """The regression and 0.01·Σ mean(p⁴-p²): every weight at zero is at a maximum of the second term."""

    strength = 0.01

    def loss(self, step: int) -> Tensor:
        """The regression's loss and the second term."""
        squares = [p.square() for p in self.parameters]
        wells = torch.stack([(s * s - s).mean() for s in squares]).sum()
        return super().loss(step) + self.strength * wells

    @torch.no_grad()
    def evaluate(self) -> float:
        """The regression's, and the second term counted from its least value: p⁴-p²+¼ = (p²-½)²."""
        wells = sum((p.square() - 0.5).square().mean() for p in self.parameters)
        return super().evaluate() + self.strength * float(wells)


PROBLEMS: dict[str, type[Problem]] = {
    "regression": Regression,
    "sparse_relu": SparseRelu,
    "noisy_quadratic": NoisyQuadratic,
    "saddle": Saddle,
}
OPTIONS = {"sparse_relu": "sparsity", "noisy_quadratic": "noise_scale"}  # what else a problem is given


def make(name: str, seed: int, init_seed: int, *, sparsity: float = 0.7, noise_scale: float = 1.0) -> Problem:
    """Make a problem by name; each takes of ``sparsity`` and ``noise_scale`` what it has.

    Raises:
        UnknownName: no problem is called so.
        ChimeraError: ``sparsity`` or ``noise_scale`` out of range, whether the problem has it or not.

    >>> round(make("noisy_quadratic", seed=0, init_seed=0).evaluate(), 2)
    0.04
    """
    if name not in PROBLEMS:
        raise UnknownName("problem", name, PROBLEMS)
    check(sparsity=sparsity, noise_scale=noise_scale)
    given = {"sparsity": sparsity, "noise_scale": noise_scale}
    own = {OPTIONS[name]: given[OPTIONS[name]]} if name in OPTIONS else {}
    return PROBLEMS[name](seed, init_seed, **own)
