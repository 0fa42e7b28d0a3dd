"""The loss of next tokens without all logits at once: a piece of the positions at a time, computed again backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chimera_lib.prion.batches import Batch

POSITIONS = 256  # at a time; a piece of 256 positions and 50,304 tokens holds 52 MB of logits in fp32


def loss(model: nn.Module, batch: Batch, *, positions: int = POSITIONS, double_shift: bool = False) -> Tensor:
    """Mean cross-entropy of the next token, in nats: value and gradient of `batches.loss`, up to rounding.

    The logits of all positions, shape (B, T, V), are the largest tensor of a step where the vocabulary is large and
    the text long. Here the output layer sees `positions` of the B·(T-1) positions at a time, in a checkpoint: its
    logits are thrown away and computed once more in the backward pass. Sums are rounded in another order.

    Args:
        model: a transformers causal language model, or a peft model around one.
        batch: what to show it.
        positions: how many at a time, at least 1.
        double_shift: see `batches.loss`.

    Raises:
        ChimeraError: `positions` is less than 1.
    """
    if positions < 1:
        raise ChimeraError(f"positions {positions}: expected at least 1 at a time")
    inputs, labels = batch.inputs, batch.labels
    if double_shift:
        inputs = {name: value[:, :-1] for name, value in inputs.items()}
        labels = labels[:, 1:]
    outer: Any = model
    plain = outer.get_base_model() if hasattr(outer, "get_base_model") else outer  # what peft wraps
    hidden = plain.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)  # (N, d)
    wanted = labels[:, 1:].flatten()  # (N,)
    head = plain.get_output_embeddings()

    def summed(states: Tensor, tokens: Tensor) -> Tensor:
        logits: Tensor = head(states)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        return torch.nn.functional.cross_entropy(logits, tokens, reduction="sum")

    pieces = zip(hidden.split(positions), wanted.split(positions), strict=True)
    total = torch.stack([checkpoint(summed, states, tokens, use_reentrant=False) for states, tokens in pieces]).sum()
    return total / len(wanted)
