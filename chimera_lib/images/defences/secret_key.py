"""An input transformation that a secret key chooses: mirror, shift, and a pattern of a few levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.images.defences.defence import Defence, Defended
from chimera_lib.images.defences.surrogates import Averaged, Exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

SHIFT = 2  # pixels, at most, each way
LEVELS = 4  # of 256, at most, by which the pattern moves a sub-pixel
GUESSES = 4  # keys of its own that the attacker averages over


@dataclass(frozen=True)
class Key:
    """Whether to mirror, how far to shift down and right, and what to add, int (H, W, 3)."""

    mirror: bool
    down: int
    right: int
    pattern: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, shape: tuple[int, int, int]) -> Key:
        """A key for images of ``shape`` (H, W, 3)."""
        down, right = (int(n) for n in rng.integers(-SHIFT, SHIFT + 1, 2))
        return cls(bool(rng.integers(2)), down, right, rng.integers(-LEVELS, LEVELS + 1, shape))

    def rows(self, height: int) -> np.ndarray:
        """Which row of the image each row of the result shows; the border repeats."""
        return np.clip(np.arange(height) - self.down, 0, height - 1)

    def columns(self, width: int) -> np.ndarray:
        """The same for columns, mirrored where the key says so."""
        columns = np.clip(np.arange(width) - self.right, 0, width - 1)
        return width - 1 - columns if self.mirror else columns

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Transform images uint8 (N, H, W, 3)."""
        moved = images[:, self.rows(images.shape[1])][:, :, self.columns(images.shape[2])]
        return np.clip(moved + self.pattern, 0, 255).astype(np.uint8)

    def view(self, x: torch.Tensor) -> torch.Tensor:
        """The same of x (N, 3, H, W) in [0, 1], differentiable."""
        rows, columns = torch.from_numpy(self.rows(x.shape[2])), torch.from_numpy(self.columns(x.shape[3]))
        pattern = torch.from_numpy(self.pattern.transpose(2, 0, 1).astype(np.float32)) / 255
        return (x[:, :, rows][:, :, :, columns] + pattern).clamp(0, 1)


class SecretKey(Defence):
    """Transforms every image by one secret key, the same on both libraries, before the network sees it.

    The attack does not know the key. Its gradient is the average over keys of its own; its values are the scores
    with which the system on library A answers its queries, one query an evaluation.
    """

    name, title = "secret-key", "secret input transformation"

    def __init__(self, sides: tuple[Sequence[str], Sequence[str]], shape: tuple[int, int, int], seed: int = 2) -> None:
        super().__init__(sides)
        self.seed = seed
        self.key = Key.draw(np.random.default_rng([seed, 0]), shape)
        guesses = np.random.default_rng([seed, 1])
        self.guesses = [Key.draw(guesses, shape) for _ in range(GUESSES)]

    @property
    def settings(self) -> dict[str, object]:
        return {"seed": self.seed}

    def inputs(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        return self.key.apply(images)

    def surrogate(self, model: nn.Module, system: Defended) -> nn.Module:
        average = Averaged(model, [guess.view for guess in self.guesses])
        return Exact(average, lambda images: system.answers(images, 0).logits)
