"""The sources' dense sampling: fifty noisy variations, at nine scales, of a point on the boundary.

The boundary point comes from the corrected search (``boundary.straight_through``); around the point that
the published one returns, the start image itself, there is no boundary to sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search import boundary
from chimera_lib.images.search.protocol import Asks, Budget, Outcome, Probe, ask_until_spent, gaps
from chimera_lib.images.search.random_noise import noisy

if TYPE_CHECKING:
    from torch import nn

SCALES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.01, 0.015, 0.02)  # of the [0, 1] range
VARIATIONS = 50


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Walk to the boundary, vary the point found, and ask about the variations of smallest gap."""
    room = Budget(evaluations=max(1, budget.evaluations - VARIATIONS), oracle_calls=budget.oracle_calls)
    probe = Probe(model, oracle, room)
    _, _, centre = min(boundary.walk(probe, image, straight_through=True))
    probe.budget = budget
    candidates = variations(centre, np.random.default_rng(seed))
    ask_until_spent(probe, candidates, gaps(probe.logits(candidates)))
    return probe.outcome


def variations(centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``centre``, uint8 (H, W, 3), and noisy copies at the nine scales: (VARIATIONS, H, W, 3) in all."""
    sigma = np.resize(np.repeat(SCALES, VARIATIONS // len(SCALES)), VARIATIONS - 1)
    return np.concatenate([centre[None], noisy(centre, sigma, rng)])
