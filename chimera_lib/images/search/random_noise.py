"""Gaussian noise around the start image: the baseline the sources report at a rate of about zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search.protocol import Asks, Budget, Outcome, Probe, ask_until_spent, gaps

if TYPE_CHECKING:
    from torch import nn

SIGMA = 0.02  # standard deviation in units of the [0, 1] range: the sources' largest scale
DRAWS = 500


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Draw noisy 8-bit copies of ``image``, uint8 (H, W, 3), and ask about those of smallest gap."""
    probe = Probe(model, oracle, budget)
    rng = np.random.default_rng(seed)
    draws = noisy(image, np.full(min(DRAWS, budget.evaluations), SIGMA), rng)
    ask_until_spent(probe, draws, gaps(probe.logits(draws)))
    return probe.outcome


def noisy(image: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One copy of ``image`` for each sigma (N,), noise added in [0, 1] and rounded to 8 bits: (N, H, W, 3)."""
    noise = rng.standard_normal((len(sigma), *image.shape)) * sigma[:, None, None, None]
    return np.clip(np.rint(image + 255 * noise), 0, 255).astype(np.uint8)
