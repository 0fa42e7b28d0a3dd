"""What a catalyst is compared with: real text and noise, the same at every step or new at each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chimera_lib.prion.catalysts.protocol import Catalyst


def text_fixed(
    model: nn.Module, tokenizer: object | None, text: Tensor, *, length: int = 64, seed: int = 0
) -> Catalyst:
    """One real passage, repeated: the control for repetition itself."""
    del tokenizer
    device = protocol.embeddings(model).device
    shown = Batch(protocol.passage(text, length, protocol.generator(seed), device))
    return protocol.repeated("text_fixed", shown)


def random_fixed(
    model: nn.Module, tokenizer: object | None, text: Tensor, *, length: int = 64, seed: int = 0
) -> Catalyst:
    """One sequence of random tokens, repeated."""
    del text
    device, size = protocol.embeddings(model).device, protocol.vocabulary(model, tokenizer)
    shown = Batch(protocol.random_tokens(size, length, protocol.generator(seed), device))
    return protocol.repeated("random_fixed", shown)


def random_tokens(
    model: nn.Module, tokenizer: object | None, text: Tensor, *, length: int = 64, seed: int = 0
) -> Catalyst:
    """Random tokens, new at each step."""
    del text
    device, size = protocol.embeddings(model).device, protocol.vocabulary(model, tokenizer)
    return protocol.fresh(
        "random_tokens", seed, lambda source: Batch(protocol.random_tokens(size, length, source, device))
    )


def random_text(
    model: nn.Module, tokenizer: object | None, text: Tensor, *, length: int = 64, seed: int = 0
) -> Catalyst:
    """Passages of the text from random places, new at each step."""
    del tokenizer
    device = protocol.embeddings(model).device
    protocol.passage(text, length, protocol.generator(seed), device)  # refuses a bad length now, not in training
    return protocol.fresh("random_text", seed, lambda source: Batch(protocol.passage(text, length, source, device)))


def gaussian_noise(
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    length: int = 64,
    seed: int = 0,
    fresh: bool = False,
    deviation: float | None = None,
) -> Catalyst:
    """Gaussian vectors in place of embeddings, with random labels.

    Args:
        model: gives the embeddings' width and norm.
        tokenizer: gives the number of tokens that labels are drawn from.
        text: not used.
        length: positions.
        seed: of the draws.
        fresh: new at each step, as published, or the same at every step, as the corrected catalyst is.
        deviation: of every coordinate; the published 0.1 is not that of the embeddings. None scales each vector to
            the mean norm of the model's embeddings.
    """
    del text
    weight, size = protocol.embeddings(model), protocol.vocabulary(model, tokenizer)
    norm = protocol.mean_norm(model)

    def draw(source: torch.Generator) -> Batch:
        vectors = torch.randn(1, length, weight.shape[1], generator=source)
        vectors = norm * torch.nn.functional.normalize(vectors, dim=-1) if deviation is None else deviation * vectors
        return Batch(protocol.random_tokens(size, length, source, weight.device), vectors.to(weight))

    if fresh:
        return protocol.fresh("gaussian_noise", seed, draw)
    return protocol.repeated("gaussian_noise", draw(protocol.generator(seed)))


def sham(model: nn.Module, tokenizer: object | None, text: Tensor, *, length: int = 64, seed: int = 0) -> Catalyst:
    """The passage of `text_fixed`, to be trained on at a learning rate of zero: what measuring alone does."""
    shown = text_fixed(model, tokenizer, text, length=length, seed=seed)
    return protocol.repeated("sham", shown.batch(0))
