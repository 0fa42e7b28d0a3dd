"""The catalyst as published: tokens near vectors that were moved up the loss, with no null direction in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.prion import batches
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import protocol
from chimera_lib.prion.hessian.product import HessianProduct
from chimera_lib.prion.hessian.published_search import published_directions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from chimera_lib.prion.catalysts.protocol import Catalyst

STEPS, RATE = 50, 1e-2


def published(
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    length: int = 64,
    seed: int = 0,
    steps: int = STEPS,
    double_shift: bool = True,
    directions: int = 0,
) -> Catalyst:
    """Make the published catalyst, fault by fault.

    The embeddings of random tokens go up the gradient of the loss at a rate of 0.01; after each step every vector is
    scaled to length 1 and the tokens become those nearest to the vectors, by Euclidean distance. The tokens of the
    moment are the labels. The result is those tokens, the vectors are dropped.

    Args:
        model: a causal language model.
        tokenizer: gives the number of tokens to draw from.
        text: not used: the published catalyst looks at no text.
        length: tokens.
        seed: of the first tokens and of the directions.
        steps: of ascent.
        double_shift: labels are cut and shifted here and shifted again by the model, as published.
        directions: so many "null directions" are searched for first, as published 10. They are not used, there as
            here: the search costs 50 Hessian products for each, which is why the default leaves it out.

    Returns:
        A repeated sequence of tokens, with the loss before and after in its facts.
    """
    del text
    weight = protocol.embeddings(model)
    source = protocol.generator(seed)
    ids = protocol.random_tokens(protocol.vocabulary(model, tokenizer), length, source, weight.device)
    if directions:
        product = HessianProduct(model, Batch(ids), double_shift=double_shift)
        published_directions(product, count=directions, generator=source)
    before = _loss(model, Batch(ids), double_shift)
    vectors = weight[ids].float()
    for _ in range(steps):
        vectors.requires_grad_(True)
        value = batches.loss(model, Batch(ids, vectors.to(weight.dtype)), double_shift=double_shift)
        (uphill,) = torch.autograd.grad(value, vectors)
        vectors = torch.nn.functional.normalize(vectors.detach() + RATE * uphill, dim=-1)
        ids = nearest(vectors, weight)
    shown = Batch(ids)
    return protocol.repeated(
        "published", shown, {"loss_before": before, "loss_after": _loss(model, shown, double_shift)}
    )


def nearest(vectors: Tensor, weight: Tensor) -> Tensor:
    """The token whose embedding is nearest to each vector, by Euclidean distance.

    Args:
        vectors: shape (B, T, d).
        weight: the embeddings, shape (V, d).

    Returns:
        Token ids, shape (B, T), int64.
    """
    flat = vectors.detach().float().flatten(0, -2)
    return torch.cdist(flat, weight.float()).argmin(-1).view(vectors.shape[:-1])


def _loss(model: nn.Module, batch: Batch, double_shift: bool) -> float:
    with torch.no_grad():
        return batches.loss(model, batch, double_shift=double_shift).item()
