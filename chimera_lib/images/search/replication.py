"""The sources' whole pipeline: boundary as published, dense variations, the ten most uncertain kept.

Those ten are what the sources then copy a hundred times each into a submission; no second backend is
asked before the end, so copies multiply a guess. Here the oracle judges the ten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search import boundary
from chimera_lib.images.search.dense_multiscale import VARIATIONS, variations
from chimera_lib.images.search.protocol import Asks, Budget, Outcome, Probe, ask_until_spent, gaps

if TYPE_CHECKING:
    from torch import nn

KEPT = 10


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Run the published pipeline from one image; the candidates are its ten images of smallest gap."""
    room = Budget(evaluations=max(1, budget.evaluations - VARIATIONS), oracle_calls=budget.oracle_calls)
    probe = Probe(model, oracle, room)
    _, _, end = boundary.walk(probe, image, straight_through=False)[-1]
    probe.budget = budget
    candidates = variations(end, np.random.default_rng(seed))
    gap = gaps(probe.logits(candidates))
    kept = np.argsort(gap, kind="stable")[:KEPT]
    ask_until_spent(probe, candidates[kept], gap[kept])
    return probe.outcome
