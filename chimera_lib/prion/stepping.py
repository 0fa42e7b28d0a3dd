"""Optimizers of the attack, and stepping each parameter as soon as its gradient is there, which holds few gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from torch import Tensor, nn

OPTIMIZERS = ("adamw", "adafactor", "sgd", "sgd-momentum")


def optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """An optimizer without weight decay, by name: adamw, adafactor, sgd, or sgd-momentum (momentum .9).

    Adafactor is transformers' with a learning rate from outside (`relative_step=False, scale_parameter=False`), as
    the published experiment has it under the name AdamW. None works on several parameters at a time (`foreach`), so
    that stepping them one by one gives the same numbers.

    Raises:
        UnknownName: another name.
    """
    from transformers.optimization import Adafactor

    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adamw": lambda: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, foreach=False),
        "adafactor": lambda: Adafactor(parameters, lr=lr, relative_step=False, scale_parameter=False),
        "sgd": lambda: torch.optim.SGD(parameters, lr=lr, foreach=False),
        "sgd-momentum": lambda: torch.optim.SGD(parameters, lr=lr, momentum=0.9, foreach=False),
    }
    if name not in makers:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    return makers[name]()


class StepInBackward:
    """A training step inside the backward pass: each parameter moves, and its gradient goes, once that is complete.

    Every parameter has an optimizer of its own, made by `make`. The result is that of ``loss.backward(); step()`` for
    optimizers that treat each parameter apart, which AdamW, Adafactor and SGD do; clipping by the norm of all
    gradients together is not possible. At most a few gradients exist at a time: 2.8 billion of them never do.

    ::

        with StepInBackward(model.parameters(), lambda p: stepping.optimizer("adafactor", [p], 1e-4)):
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
