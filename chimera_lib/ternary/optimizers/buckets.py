"""Small parameters, end to end: one call per formula for all of them instead of one for each.

ResNet-20 has 65 parameters, most of a few dozen elements, for which calling an operation costs more than doing it.
A bucket keeps their state in one flat tensor per kind; what stands in ``optimizer.state`` are views of it. Saved
together they weigh what they would without, since torch saves a storage once; a single entry saved by itself brings the
whole tensor along, as any view does (clone it first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BLOCK", "SMALL", "Bucket", "blocks", "places"]

SMALL = 2**16  # elements; a larger parameter keeps its own tensors
BLOCK = 2**15  # elements per thread: what a step reads, writes and allocates of it fits in a second-level cache


class Bucket:
    """The state of parameters of one device and dtype, which it takes over from wherever it is."""

    def __init__(self, parameters: Sequence[Tensor], states: Sequence[dict[str, Any]], offsets: Sequence[int]) -> None:
        self.parameters = list(parameters)
        self.lengths = [p.numel() for p in parameters]
        self._offsets = list(offsets)
        self._places: Tensor | None = None
        first, total = parameters[0], sum(self.lengths)
        wide = torch.float64 if first.dtype == torch.float64 else torch.float32
        self.grad = torch.empty(total, dtype=wide, device=first.device)  # gradients, then what is to be added
        self.flat: dict[str, Tensor] = {}
        self.views: dict[str, list[Tensor]] = {}
        for name, value in states[0].items():
            if value.dim() == 0 and name in {"step", "psi_floor"}:
                self.flat[name] = torch.empty(len(self.lengths), dtype=value.dtype, device=value.device)
                self.views[name] = list(self.flat[name].unbind())
            else:
                self.flat[name] = torch.empty(total, dtype=value.dtype, device=value.device)
                self.views[name] = self._split(self.flat[name])
        self.grads = self._split(self.grad)

    def _split(self, flat: Tensor) -> list[Tensor]:
        return [part.view(p.shape) for part, p in zip(flat.split(self.lengths), self.parameters, strict=True)]

    def holds(self, parameters: Sequence[Tensor], states: Sequence[dict[str, Any]]) -> bool:
        """Whether these are its parameters, and their state has the same entries as when it was made."""
        same = len(parameters) == len(self.parameters) and all(map(_is, parameters, self.parameters))
        return same and states[0].keys() == self.views.keys() and states[0]["psi"].dtype == self.flat["psi"].dtype

    def adopt(self, states: Sequence[dict[str, Any]]) -> None:
        """Copy in whatever was put into the state since the last step, as ``load_state_dict`` does."""
        for name, views in self.views.items():
            for view, state in zip(views, states, strict=True):
                if state[name] is not view:
                    view.copy_(state[name])
                    state[name] = view

    def release(self, states: Sequence[dict[str, Any]]) -> None:
        """Give each parameter tensors of its own again, so that nothing holds on to the flat ones."""
        for name, views in self.views.items():
            for view, state in zip(views, states, strict=True):
                if state.get(name) is view:
                    state[name] = view.clone()

    def take(self, grads: Sequence[Tensor], *, negate: bool) -> None:
        """Copy the gradients in; they themselves are left as they are."""
        torch._foreach_copy_(self.grads, list(grads))
        if negate:
            self.grad.neg_()

    def common(self, name: str) -> float | None:
        """The value of ``step`` or ``psi_floor`` that all parameters share, or None where they differ."""
        values = self.flat[name].tolist()
        return values[0] if values.count(values[0]) == len(values) else None

    def places(self) -> Tensor:
        """The number of each element among all elements of the optimizer, int32 (N,)."""
        if self._places is None:
            pairs = zip(self._offsets, self.lengths, strict=True)
            self._places = torch.cat([places(o, n, self.grad.device) for o, n in pairs])
        return self._places


def _is(one: object, other: object) -> bool:
    return one is other


def places(offset: int, count: int, device: torch.device) -> Tensor:
    """``offset``, ``offset`` + 1, …, as int32 that wraps around."""
    return torch.arange(count, dtype=torch.int32, device=device).add_((offset + 2**31) % 2**32 - 2**31)


def blocks(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape, block by block as flat views where all are contiguous on the CPU; else whole."""
    size = BLOCK * torch.get_num_threads()
    first = tensors[0]
    if first.is_cpu and first.numel() > size and all(t.is_contiguous() for t in tensors):
        yield from zip(*(t.view(-1).split(size) for t in tensors), strict=True)
    else:
        yield tuple(tensors)
