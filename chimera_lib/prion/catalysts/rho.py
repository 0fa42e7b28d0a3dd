"""rho: how sharp the loss on real text is along the step that a sequence asks for, with a random sequence for unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import protocol
from chimera_lib.prion.hessian.parameters import gradient
from chimera_lib.prion.hessian.product import HessianProduct

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS, SEQUENCES = 4, 8
APART = 7_000_000  # added to a seed where draws must not be those of the catalyst


@dataclass(frozen=True)
class Rho:
    """The measure, on one model and one batch of text.

    With g the gradient of the loss on a sequence and H the Hessian of the loss on the text, the sequence's curvature
    is ||H g|| / ||g||, and rho is that over its mean for sequences of random tokens. So rho is about 1 for what is
    no more null than any garbage, and near 0 where the step that the sequence asks for is one that the loss on text
    does not feel to second order.

    Attributes:
        product: of H.
        reference: mean curvature of sequences of random tokens.
    """

    product: HessianProduct
    reference: float

    def curvature(self, batch: Batch) -> float:
        """||H g|| / ||g|| of the gradient on a batch; raises ChimeraError where the gradient is zero."""
        slope = gradient(self.product.model, batch, self.product.parameters)
        length = float(slope.norm())
        if not length > 0:
            raise ChimeraError(f"the gradient's norm is {length}: rho needs a batch with a gradient that is not zero")
        return float(self.product(slope).norm()) / length

    def __call__(self, batch: Batch) -> float:
        """The curvature of a batch over that of random tokens."""
        return self.curvature(batch) / self.reference


def scale(
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    length: int = 64,
    rows: int = ROWS,
    sequences: int = SEQUENCES,
    seed: int = 0,
    keep_graph: bool = True,
) -> Rho:
    """Draw a batch of text for H, and sequences of random tokens for the unit.

    Args:
        model: a causal language model with eager attention.
        tokenizer: its tokenizer, or None to draw from all rows of the embedding.
        text: token ids, shape (N,).
        length: tokens of each passage and of each random sequence.
        rows: passages of text that H is taken on.
        sequences: of random tokens, whose mean curvature is the unit.
        seed: of both draws.
        keep_graph: see `HessianProduct`; less time for more memory.

    Raises:
        ChimeraError: the text is shorter than `length`, or fewer than one row or sequence.
    """
    if rows < 1 or sequences < 1:
        raise ChimeraError(f"{rows} rows and {sequences} sequences: expected at least 1 of each")
    source, device = protocol.generator(seed + APART), protocol.embeddings(model).device
    product = HessianProduct(model, Batch(protocol.passage(text, length, source, device, rows)), keep_graph=keep_graph)
    unscaled, size = Rho(product, 1.0), protocol.vocabulary(model, tokenizer)
    drawn = [Batch(protocol.random_tokens(size, length, source, device)) for _ in range(sequences)]
    return Rho(product, sum(unscaled.curvature(one) for one in drawn) / sequences)
