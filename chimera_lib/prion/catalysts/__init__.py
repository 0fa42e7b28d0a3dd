"""What a model is trained on in the experiment: the catalysts, published and corrected, and their controls, by name."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion.catalysts.controls import (
    gaussian_noise,
    random_fixed,
    random_text,
    random_tokens,
    sham,
    text_fixed,
)
from chimera_lib.prion.catalysts.near_null import eigen_prion, snapped
from chimera_lib.prion.catalysts.protocol import Catalyst
from chimera_lib.prion.catalysts.published import published

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

__all__ = ["KINDS", "Catalyst", "make", "snapped"]

KINDS: dict[str, Callable[..., Catalyst]] = {
    "eigen_prion": eigen_prion,
    "eigen_prion_hard": functools.partial(eigen_prion, hard=True),
    "published": published,
    "gaussian_noise": gaussian_noise,
    "random_tokens": random_tokens,
    "random_fixed": random_fixed,
    "random_text": random_text,
    "text_fixed": text_fixed,
    "sham": sham,
}


def make(
    kind: str,
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    length: int = 64,
    seed: int = 0,
    **options: Any,
) -> Catalyst:
    """Make a catalyst or a control.

    Args:
        kind: a name of `KINDS`.
        model: the causal language model it is for.
        tokenizer: the model's; how many tokens it knows is all that is asked of it.
        text: token ids to take passages from, shape (N,), int64.
        length: tokens, at least 3.
        seed: of everything that is drawn; the same seed gives the same catalyst.
        options: those of the kind alone, see its function.

    Raises:
        UnknownName: there is no such kind.
        ChimeraError: an option that the kind does not have, or a value that cannot be.
    """
    if kind not in KINDS:
        raise UnknownName("catalyst", kind, KINDS)
    if length < 3:
        raise ChimeraError(f"length is {length}: expected at least 3 tokens")
    return KINDS[kind](model, tokenizer, text, length=length, seed=seed, **options)
