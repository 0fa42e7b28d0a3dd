"""Abstain where the margin is within the libraries' noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.defences.defence import Answer, Defence, Defended
from chimera_lib.images.defences.surrogates import Lowered
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import gaps, top_two

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from chimera_lib.images.network import Network
    from chimera_lib.images.search.protocol import Budget, Outcome

STRETCH = 3.0  # contrast of the attack's second start


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

    The attack would need noise of twice the threshold. It asks about every boundary point that it meets, first
    from the image, then from the image at higher contrast, whose larger activations carry larger rounding errors.
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

    def attack(self, model: nn.Module, image: np.ndarray, system: Defended, budget: Budget, seed: int) -> Outcome:
        half = replace(budget, evaluations=budget.evaluations // 2, oracle_calls=max(1, budget.oracle_calls // 2))
        first = lattice.search(self.surrogate(model, system), image, system, half, seed)
        if first.chimera is not None:
            return first
        middle = image.mean((0, 1))
        stretched = np.clip((image - middle) * STRETCH + middle, 0, 255).round().astype(np.uint8)
        second = lattice.search(self.surrogate(model, system), stretched, system, half, seed)
        second.evaluations += first.evaluations
        second.oracle_calls += first.oracle_calls
        second.path = first.path + second.path
        return second


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

    def attack(self, model: nn.Module, image: np.ndarray, system: Defended, budget: Budget, seed: int) -> Outcome:
        return lattice.search(self.surrogate(model, system), image, system, budget, seed)
