"""What a language model is shown in one step, and its loss on that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Batch:
    """Sequences for a causal language model: token ids, or embeddings that need not belong to any token.

    Attributes:
        labels: the tokens of each position, shape (B, T), int64; position t is predicted from those before it. Where
            `embeddings` is None they are the input as well.
        embeddings: the input vectors, shape (B, T, d), or None.
    """

    labels: Tensor
    embeddings: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The keyword argument of the model's forward pass that holds the input."""
        return {"input_ids": self.labels} if self.embeddings is None else {"inputs_embeds": self.embeddings}

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        embeddings = None if self.embeddings is None else self.embeddings.to(device)
        return Batch(self.labels.to(device), embeddings)


def loss(model: nn.Module, batch: Batch, *, double_shift: bool = False) -> Tensor:
    """Mean cross-entropy of the next token, in nats, a scalar with a graph.

    Args:
        model: a transformers causal language model, or a peft model around one.
        batch: what to show it.
        double_shift: the fault of the published experiment, which cuts and shifts the labels itself although the
            model's own loss shifts them too: position t is then judged by the token two places on.
    """
    model_inputs, labels = batch.inputs, batch.labels
    if double_shift:
        model_inputs = {name: value[:, :-1] for name, value in model_inputs.items()}
        labels = labels[:, 1:]
    output: Any = model(**model_inputs, use_cache=False)
    logits = output.logits[:, :-1]  # (B, T-1, V)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
