"""Sampling from RAR token by token, each position computed once (key and value cache)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar import guidance
from chimera_lib.provenance.rar.attention import KeyValueCache
from chimera_lib.provenance.truncation import check, draw

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.transformer import RAR


class Decoding:
    """The logits of one position after another, row by row, for condition ids (B,).

    `next(None)` gives those of token 0, then `next(ids)` with the token that was chosen those of the following one.
    """

    @torch.no_grad()
    def __init__(self, model: RAR, condition: torch.Tensor) -> None:
        self.model = model
        self.where, self.steps = model.positions()
        self.given = model.embeddings(condition)[:, None]  # (B, 1, C)
        self.start = model.begin(condition, self.where)  # (B, 2, C)
        self.seen = 0  # positions computed so far
        self.caches = [KeyValueCache(model.config.image_seq_len + 1) for _ in model.blocks]

    @torch.no_grad()
    def next(self, ids: torch.Tensor | None) -> torch.Tensor:
        """Logits (B, V) of the next token, after the chosen ids (B,); None at the beginning.

        Raises ChimeraError after the last token, and where ids are given at the beginning or missing later.
        """
        if (ids is None) != (self.seen == 0):
            raise ChimeraError("the first call takes None, every later one the tokens chosen (B,)")
        if self.seen > self.model.config.image_seq_len:
            raise ChimeraError(f"all {self.model.config.image_seq_len} tokens are written; begin another Decoding")
        here = self.where[:, self.seen : self.seen + 1]
        x = self.start if ids is None else self.model.embeddings(ids)[:, None] + here  # (B, 2 or 1, C)
        c = self.given + self.steps[:, self.seen : self.seen + x.shape[1]]
        self.seen += x.shape[1]
        for block, cache in zip(self.model.blocks, self.caches, strict=True):
            x = block(x, c, cache)
        return self.model.head(x[:, -1:], c[:, -1:])[:, 0]


@torch.no_grad()
def generate(
    model: RAR,
    labels: torch.Tensor,
    *,
    cfg: float = 4.0,
    cfg_pow: float = 0.0,
    top_k: int = 0,
    top_p: float = 0.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Tokens (B, L), int64, sampled row by row.

    Args:
        model: in evaluation mode.
        labels: classes (B,), or `model.null_label`.
        cfg: guidance scale at the end of the schedule; 0 samples from the conditional distribution.
        cfg_pow: power of the guidance schedule (`guidance.scale`); 0 is a constant scale.
        top_k: choose among the k likeliest tokens only; 0 is all.
        top_p: choose among the fewest tokens of this probability in all; 0 is all of them.
        temperature: divides the guided logits, above 0.
        generator: source of the draws, on the model's device; None takes torch's global one.

    Raises ChimeraError for labels or options out of range.
    """
    check(top_k, top_p, temperature)
    length = model.config.image_seq_len
    condition = model.conditions(labels)
    if cfg != 0:
        condition = torch.cat([condition, torch.full_like(condition, model.none_condition_id)])
    decoding = Decoding(model, condition)
    tokens = condition.new_empty(len(labels), length)
    ids: torch.Tensor | None = None
    for step in range(length):
        scale = guidance.scale(step, length, cfg, cfg_pow)
        logits = decoding.next(ids).float()
        if cfg != 0:
            conditional, unconditional = logits.chunk(2)
            logits = guidance.mixed(conditional, unconditional, scale)
        chosen = draw(logits, top_k=top_k, top_p=top_p, temperature=temperature, generator=generator)
        tokens[:, step] = chosen
        ids = chosen if cfg == 0 else chosen.repeat(2)
    return tokens
