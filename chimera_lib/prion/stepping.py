"""Stepping each parameter as soon as its gradient is there, so that few gradients exist at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    import torch
    from torch import Tensor, nn


class StepInBackward:
    """A training step inside the backward pass: each parameter moves, and its gradient goes, once that is complete.

    Every parameter has an optimizer of its own, made by `make`. The result is that of ``loss.backward(); step()`` for
    optimizers that treat each parameter apart, which AdamW, Adafactor and SGD do; clipping by the norm of all
    gradients together is not possible. At most a few gradients exist at a time: 2.8 billion of them never do.

    ::

        with StepInBackward(model.parameters(), lambda p: optimizers.build("adafactor", [p], 1e-4)):
            for batch in batches:
                loss(model, batch).backward()  # no step(), no zero_grad()

    Args:
        parameters: those that train; those without `requires_grad` are passed over.
        make: makes the optimizer of one parameter.

    Raises:
        ChimeraError: none of the parameters trains, or one holds a gradient already, which the first step would use.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], make: Callable[[nn.Parameter], torch.optim.Optimizer]
    ) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            raise ChimeraError("no trainable parameter: expected one with requires_grad set")
        if any(parameter.grad is not None for parameter in trained):
            raise ChimeraError("a parameter holds a gradient of an earlier backward pass: model.zero_grad() first")
        self.optimizers = {parameter: make(parameter) for parameter in trained}
        self._hooks = [p.register_post_accumulate_grad_hook(self._step) for p in trained]

    def _step(self, parameter: Tensor) -> None:
        self.optimizers[parameter].step()  # type: ignore[index]  # the hooks are those of the parameters
        parameter.grad = None

    def remove(self) -> None:
        """Take the hooks away: later backward passes only leave gradients, as they do without this."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> StepInBackward:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()
