"""The product of a loss's Hessian with a vector, by differentiating twice (Pearlmutter 1994)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.hessian.parameters import flat, gradient, trainable, unflat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn


class HessianProduct:
    """H v for the Hessian H of the mean loss on a batch, with respect to the trainable parameters.

    H v is the gradient of <g, v>, where g is the loss's gradient and v is held fixed: a gradient and a half of
    memory, and about three to four gradients' time. H itself is never formed. The parameters are read anew at every
    product, so that the operator follows a model in training, unless `keep_graph` is set.

    Args:
        model: a causal language model with eager attention; the fused kernels have no second derivative.
        batch: what the loss is taken of, B sequences of T positions.
        parameters: the Hessian's coordinates, in order; by default the trainable ones (with LoRA the adapters).
        double_shift: the published fault in the labels, see `batches.loss`.
        rows_at_once: sequences in memory at a time; by default all. The result does not depend on it, up to rounding.
        keep_graph: keep the gradient and its graph from one product to the next, which on the
            miniatures saves two fifths of the time (CPU, two passages of 64 tokens) as long as the parameters do not
            change, and takes the memory of the whole batch at once.

    Attributes:
        size: P, the number of coordinates.
        products: how many have been computed.

    Raises:
        ChimeraError: attention other than eager, active dropout (no fixed function to differentiate), no parameters,
            `rows_at_once` below 1, or both it and `keep_graph`.

    Source: Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994).
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        parameters: Sequence[Tensor] | None = None,
        *,
        double_shift: bool = False,
        rows_at_once: int | None = None,
        keep_graph: bool = False,
    ) -> None:
        check_differentiable_twice(model)
        if rows_at_once is not None and rows_at_once < 1:
            raise ChimeraError(f"rows_at_once is {rows_at_once}: expected at least 1")
        if rows_at_once is not None and keep_graph:
            raise ChimeraError("keep_graph holds the whole batch in memory: leave out rows_at_once, or keep_graph")
        self.model, self.batch, self.double_shift = model, batch, double_shift
        self.parameters = list(trainable(model) if parameters is None else parameters)
        self.rows_at_once = rows_at_once
        self.size = sum(parameter.numel() for parameter in self.parameters)
        self.keep_graph = keep_graph
        self.products = 0
        self._kept: Tensor | None = None

    def __call__(self, vector: Tensor) -> Tensor:
        """H v, shape (P,), on the vector's device and in its dtype, wherever the model is.

        Raises:
            ChimeraError: the vector has another shape than (P,).
        """
        directions = unflat(vector.detach(), self.parameters)
        total = torch.zeros_like(vector, requires_grad=False)
        for rows, share in self._chunks():
            slope = self._slope(rows)
            pieces = torch.autograd.grad(
                slope @ flat(directions).to(slope),
                self.parameters,
                retain_graph=self.keep_graph,
                allow_unused=True,
                materialize_grads=True,
            )
            total += share * flat(pieces).to(vector)
        self.products += 1
        return total

    def gradient(self) -> Tensor:
        """The gradient of the same loss, shape (P,), on the model's device."""
        parts = [
            share * gradient(self.model, rows, self.parameters, double_shift=self.double_shift)
            for rows, share in self._chunks()
        ]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _slope(self, rows: Batch) -> Tensor:
        """The gradient on some sequences with its graph, kept from the first product on where that is asked for."""
        if self._kept is not None:
            return self._kept
        slope = gradient(self.model, rows, self.parameters, double_shift=self.double_shift, create_graph=True)
        if self.keep_graph:
            self._kept = slope
        return slope

    def _chunks(self) -> Iterator[tuple[Batch, float]]:
        """Groups of sequences and each one's share of the mean."""
        count = len(self.batch.labels)
        step = self.rows_at_once or count
        for start in range(0, count, step):
            rows = slice(start, min(start + step, count))
            embeddings = None if self.batch.embeddings is None else self.batch.embeddings[rows]
            yield Batch(self.batch.labels[rows], embeddings), (rows.stop - rows.start) / count


def check_differentiable_twice(model: nn.Module) -> None:
    """Refuse a model whose loss has no second derivative here, or is another function at every call.

    Raises:
        ChimeraError: attention other than eager, or dropout in training mode.
    """
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if attention not in (None, "eager"):
        raise ChimeraError(
            f"{type(model).__name__} computes attention by {attention!r}, which has no second derivative: "
            "load it with attn_implementation='eager', or call model.set_attn_implementation('eager')"
        )
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout) and module.training and module.p > 0:
            raise ChimeraError(f"{name} drops out at rate {module.p} in training mode: call model.eval() first")
