"""What every ternary quantizer shares: its contract, the ternary code of a weight, and the straight-through estimator.

A quantizer is a module without inputs of its own: a layer hands it the full-precision weight and multiplies by what
comes back. Its state (an EMA, a warm-up counter, learnt scales) lies in buffers and parameters, so that a
``state_dict`` resumes it exactly, and changes only in training forwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SCALE = 1e-6  # scales are kept above it, so that all-zero weights divide by no zero


class Ternary(NamedTuple):
    """A weight as codes and two scales: ``plus`` where the code is 1, ``-minus`` where it is -1, else 0.

    Attributes:
        codes: int8 of the weight's shape, each -1, 0 or 1.
        plus: the scale of the ones, of the weight's dtype: 0-dimensional, or (C, 1, ...), one for each output channel.
        minus: the scale of the minus ones, likewise.
    """

    codes: Tensor
    plus: Tensor
    minus: Tensor

    def values(self) -> Tensor:
        """The weight that the codes stand for, of the scales' dtype. A scale that is NaN makes everything NaN."""
        return self.plus * (self.codes == 1) - self.minus * (self.codes == -1)


def straight_through(source: Tensor, quantise_: Callable[[Tensor], object]) -> Tensor:
    """A copy of ``source`` that ``quantise_`` has overwritten, whose gradient goes to ``source`` unchanged.

    This is the straight-through estimator (Bengio et al. 2013, section 2.3). Unlike ``x + (q - x).detach()`` it gives
    the quantised values bit for bit and saves nothing for the backward pass.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        value = source.detach().clone()
        with torch.no_grad():
            quantise_(value)
        return cast("Tensor", StraightThrough.apply(source, value))
    # The gradient of a copy is the identity, in C++: a Python function in the graph costs a small layer up to a tenth
    # of a millisecond. Transforms and compilers follow writes through an alias, so that they need the other way.
    copied = source.clone()
    with torch.no_grad():
        quantise_(copied.detach())
    return copied


class StraightThrough(torch.autograd.Function):
    """The second argument forwards; the gradient goes to the first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(source: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004  (autograd hands both)
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Nothing is needed backward."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad, None


def recomputing() -> bool:
    """Whether this forward runs inside a backward pass, i.e. is activation checkpointing's repetition of another.

    A repetition must neither count nor average a second time: it has to give what the first one gave.
    """
    # Torch has no public name for this. A compiled graph never asks: it replays the state's changes itself.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class Quantizer(nn.Module):
    """Base of the ternary quantizers.

    Args:
        weight: the weight that will be quantized. Its shape and device are used, its values only by quantizers with
            learnt scales, which start from them.
        per_channel: one scale for each output channel (the first dimension), else one for the tensor.
    """

    def __init__(self, weight: Tensor, *, per_channel: bool = False) -> None:
        super().__init__()
        if per_channel and weight.dim() < 2:
            raise ValueError(
                f"per_channel with a weight of shape {tuple(weight.shape)}: expected two dimensions or more"
            )
        self.per_channel = per_channel
        self.scale_shape = (weight.shape[0],) + (1,) * (weight.dim() - 1) if per_channel else ()

    def forward(self, weight: Tensor) -> Tensor:
        """The fake-quantised weight, of the same shape and dtype, differentiable; in training, the state moves on."""
        raise NotImplementedError

    def trits(self, weight: Tensor) -> Ternary:
        """The codes and scales with which the last forward multiplied ``weight``, or an eval forward would.

        Changes nothing. In eval mode ``forward(weight)`` equals ``trits(weight).values()`` bit for bit.
        """
        raise NotImplementedError

    def reduce(self, values: Tensor, how: Callable[..., Tensor] = torch.mean) -> Tensor:
        """``how`` (torch.mean, sum or amax) over all that shares a scale: of shape ``scale_shape``."""
        if not self.per_channel:
            return how(values)
        return how(values, dim=tuple(range(1, values.dim())), keepdim=True).reshape(self.scale_shape)

    def extra_repr(self) -> str:
        return "per_channel=True" if self.per_channel else ""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantizer:
        """Move the state with the module, but keep its precision: in bfloat16 an EMA of rate .05 stands still."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self


def exact(weight: Tensor) -> Tensor:
    """``weight`` without its graph, in float32 where its own precision is lower: thresholds are compared there."""
    weight = weight.detach()
    return weight.float() if weight.dtype in (torch.bfloat16, torch.float16) else weight
