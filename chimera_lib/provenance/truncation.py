"""Which tokens a sampler may draw, and the draw: top-k, then top-p, as the public VAR samples; RAR draws so too."""

from __future__ import annotations

import torch
from torch import Tensor

from chimera_lib.errors import ChimeraError


def check(top_k: int, top_p: float, temperature: float) -> None:
    """Raise ChimeraError for values that `truncate` or `draw` cannot use."""
    if top_k < 0:
        raise ChimeraError(f"top_k={top_k}: expected the number of tokens to keep, or 0 to keep all")
    if not 0 <= top_p <= 1:
        raise ChimeraError(f"top_p={top_p}: expected the probability to keep, within 0 and 1 (0 and 1 keep all)")
    if not temperature > 0:
        raise ChimeraError(f"temperature={temperature}: expected more than 0 (for the likeliest token, top_k=1)")


def truncate(logits: Tensor, *, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Logits (..., V) with -inf where the sampler never draws; at least the likeliest token stays.

    Top-k comes first and keeps whatever ties with the k-th. Top-p (nucleus sampling, Holtzman et al. 2020) then sums
    the remaining probabilities from the smallest on and removes those whose sum is at most 1 - top_p.

    Args:
        top_k: how many to keep; 0, or V and more, keeps all.
        top_p: the probability to keep; 0 keeps all.

    Raises ChimeraError for values out of range.
    """
    check(top_k, top_p, 1.0)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1)
        outside = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        outside[..., -1] = False
        logits = logits.masked_fill(outside.scatter(-1, order, outside), -torch.inf)
    return logits


def draw(
    logits: Tensor,
    *,
    top_k: int = 0,
    top_p: float = 0.0,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token (...) for each row of logits (..., V), which the temperature divides before truncation.

    Raises ChimeraError for values out of range.
    """
    check(top_k, top_p, temperature)
    kept = truncate(logits / temperature, top_k=top_k, top_p=top_p)
    chances = kept.softmax(dim=-1).flatten(0, -2)
    return torch.multinomial(chances, 1, generator=generator).view(logits.shape[:-1])
