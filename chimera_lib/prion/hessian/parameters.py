"""A model's trainable parameters as one vector, and back; the gradient of its loss as such a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from chimera_lib.prion.batches import Batch


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training moves, in the model's order; with LoRA those of the adapters alone.

    Raises:
        ChimeraError: there is none.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise ChimeraError(f"{type(model).__name__} has no trainable parameter: expected one with requires_grad set")
    return found


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector of all the tensors' numbers in order, shape (P,)."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector of shape (P,) into tensors of the shapes, devices and dtypes of `like`.

    Raises:
        ChimeraError: the vector has another number of entries than those tensors together.
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.shape != (sum(sizes),):
        raise ChimeraError(f"a vector of shape {tuple(vector.shape)}: expected ({sum(sizes)},), one entry a parameter")
    pieces = vector.split(sizes)
    return [piece.view_as(tensor).to(tensor) for piece, tensor in zip(pieces, like, strict=True)]


def gradient(
    model: nn.Module,
    batch: Batch,
    parameters: Sequence[Tensor] | None = None,
    *,
    double_shift: bool = False,
    create_graph: bool = False,
) -> Tensor:
    """The gradient of the loss on a batch, shape (P,); zero for parameters that the loss does not depend on.

    Args:
        model: a causal language model, see `batches.loss`.
        batch: what it is shown.
        parameters: with respect to which; by default `trainable(model)`.
        double_shift: see `batches.loss`.
        create_graph: keep what a further derivative needs.
    """
    wanted = list(trainable(model) if parameters is None else parameters)
    value = batches.loss(model, batch, double_shift=double_shift)
    return flat(
        torch.autograd.grad(value, wanted, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    )
