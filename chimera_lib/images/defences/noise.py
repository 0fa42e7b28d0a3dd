"""Input noise: the mean logits over a few noisy copies, as in randomised smoothing, with fixed or fresh draws.

Source of the idea: Cohen, Rosenfeld and Kolter, Certified adversarial robustness via randomized smoothing (2019).
Their certificate is about the votes of very many draws; a few draws are what an answer in real time can pay for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.images.defences.defence import Answer, Defence, Defended
from chimera_lib.images.defences.surrogates import Averaged
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget, BudgetSpent, Outcome, Probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

COPIES = 4
GUESSES = 16  # draws of its own that the attack on fresh ones averages over
ASKED_AGAIN = 8  # times that the attack on fresh draws asks about one point
SIGMA = 0.02  # of the noise, in the network's units: about five of 256 levels


def averaged(model: nn.Module, noise: np.ndarray) -> nn.Module:
    """The mean of ``model`` over noise float32 (draws, H, W, 3)."""
    draws = torch.from_numpy(noise.transpose(0, 3, 1, 2).copy())
    return Averaged(model, [draw.__radd__ for draw in draws])


def normal(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise float32 (count, *shape) of standard deviation SIGMA."""
    return (SIGMA * rng.standard_normal((count, *shape))).astype(np.float32)


class FixedNoise(Defence):
    """The same draws for every image, on every machine. The attack differentiates through their average."""

    name, title = "noise-fixed", "input noise, fixed draws"
    copies = COPIES

    def __init__(self, sides: tuple[Sequence[str], Sequence[str]], shape: tuple[int, int, int], seed: int = 1) -> None:
        super().__init__(sides)
        self.shape, self.seed = shape, seed  # shape: (H, W, C)
        self.noise = normal(np.random.default_rng(seed), COPIES, shape)

    @property
    def settings(self) -> dict[str, object]:
        return {"copies": self.copies, "sigma": SIGMA, "seed": self.seed}

    def inputs(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        x = images.astype(np.float32) / np.float32(255)
        return (x[:, None] + self.noise).reshape(-1, *images.shape[1:])

    def answer(self, logits: np.ndarray) -> Answer:
        total = logits[0, :, 0].copy()
        for copy in range(1, self.copies):  # one after another: a sum of numpy's own would choose its order
            total += logits[0, :, copy]
        return Answer(total / np.float32(self.copies), np.zeros(len(total), bool))

    def surrogate(self, model: nn.Module, system: Defended) -> nn.Module:  # noqa: ARG002
        return averaged(model, self.noise)


class FreshNoise(FixedNoise):
    """New draws for every image asked about.

    The attack averages over draws of its own, and need not come closer to the boundary than the draws scatter: it
    asks about one and the same image several times.
    """

    name, title = "noise-fresh", "input noise, fresh draws"
    fresh = True

    def inputs(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = images.astype(np.float32) / np.float32(255)
        return np.concatenate([one + normal(rng, COPIES, self.shape) for one in x])

    def attack(self, model: nn.Module, image: np.ndarray, system: Defended, budget: Budget, seed: int) -> Outcome:
        rng = np.random.default_rng(seed)
        probe = Probe(averaged(model, normal(rng, GUESSES, self.shape)), system, budget)
        share = 1.0
        try:
            while probe.outcome.chimera is None:
                point = lattice.reach(probe, image, share, rng)
                share = lattice.AGAIN
                if point is None:
                    continue
                for _ in range(ASKED_AGAIN):
                    verdict = probe.ask(point)
                    if verdict is None or verdict.conflict[0]:
                        break
        except BudgetSpent:
            pass
        return probe.outcome


class FreshNoiseControl(FreshNoise):
    """The control: the same library on both sides, so that whatever differs is the draws'."""

    name, title = "noise-fresh-control", "the same, one library twice"
    clean = False

    def __init__(self, sides: tuple[Sequence[str], Sequence[str]], shape: tuple[int, int, int], seed: int = 1) -> None:
        super().__init__((sides[0], sides[0]), shape, seed)
