"""The hidden states of a language model's middle layer, by which a collapse of its representation is judged."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def layers(model: nn.Module) -> nn.ModuleList:
    """The stack of transformer layers of a GPT-NeoX, Llama or GPT-2 model, also one that peft has wrapped.

    Raises:
        ChimeraError: the model keeps them somewhere else.
    """
    base = getattr(model, "get_base_model", lambda: model)()
    for path in ("gpt_neox.layers", "model.layers", "transformer.h"):
        found: Any = base
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise ChimeraError(f"{type(base).__name__}: expected its layers at gpt_neox.layers, model.layers or transformer.h")


@contextlib.contextmanager
def watched(model: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the outputs of layer L // 2 of L while the block runs: (positions, d), fp32, one a forward pass.

    The model is in evaluation mode and no gradients are kept meanwhile; afterwards it is in the mode it was in.
    """
    stack = layers(model)
    caught: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Any) -> None:
        state = output[0] if isinstance(output, tuple) else output
        caught.append(state.detach().float().flatten(0, 1))

    was_training = model.training
    hook = stack[len(stack) // 2].register_forward_hook(keep)
    try:
        model.eval()
        with torch.no_grad():
            yield caught
    finally:
        hook.remove()
        model.train(was_training)


def middle(model: nn.Module, inputs: Iterable[dict[str, Tensor]]) -> Tensor:
    """Outputs of layer L // 2 of L for keyword arguments of forward passes, one row a position, shape (N, d), fp32."""
    with watched(model) as caught:
        for one in inputs:
            model(**one, use_cache=False)
    return torch.cat(caught)
