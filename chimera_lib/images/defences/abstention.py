"""Abstain where the margin is within the libraries' noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.defences.defence import Answer, Defence, Defended
from chimera_lib.images.defences.surrogates import Lowered
from chimera_lib.images.search.protocol import gaps, top_two

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from chimera_lib.images.network import Network


def measured_noise(network: Network, sides: tuple[Sequence[str], Sequence[str]], images: np.ndarray) -> float:
    """The largest difference between two libraries' top-two margins over images uint8 (N, H, W, 3), in logits."""
    with Defended(Defence(sides), network) as system:
        a, b = system(images).logits.astype(np.float64)
    pairs = [top_two(row) for row in a]
    rows = np.arange(len(a))
    first, second = np.array(pairs).T
    return float(np.abs((a[rows, first] - a[rows, second]) - (b[rows, first] - b[rows, second])).max())


class Abstention(Defence):
    """Answers only where the top two logits are ``threshold`` or more apart.

    For a conflict the libraries' margins would have to lie ``threshold`` beyond zero on either side, so their noise
    would have to be twice what was measured. The attack asks about every boundary point that it meets until its
    budget ends. Starts of larger activations (higher contrast, or ascended along the logits' or the features'
    gradient) were tried on training images: their noise is not larger.
    """

    name, title = "abstention", "abstain within the measured noise"

    def __init__(self, sides: tuple[Sequence[str], Sequence[str]], threshold: float) -> None:
        super().__init__(sides)
        self.threshold = threshold

    @property
    def settings(self) -> dict[str, object]:
        return {"threshold": self.threshold}

    def answer(self, logits: np.ndarray) -> Answer:
        z = logits[0, :, 0].astype(np.float64)
        return Answer(z, gaps(z) < self.threshold)


class AbstentionEdge(Abstention):
    """The same defence attacked at its own edge: an image that one library answers and the other does not."""

    name, title = "abstention-edge", "the same, its edge attacked"
    edge, clean = True, False

    def surrogate(self, model: nn.Module, system: Defended) -> nn.Module:  # noqa: ARG002
        return Lowered(model, self.threshold)

    def answer(self, logits: np.ndarray) -> Answer:
        plain = super().answer(logits)
        lowered = plain.logits.copy()
        lowered[np.arange(len(lowered)), lowered.argmax(1)] -= self.threshold
        return Answer(lowered, plain.abstains)
