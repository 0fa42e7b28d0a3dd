"""The points of smallest gap that a search came by, asked about at once where the backends' noise may decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search.lattice import NOISE
from chimera_lib.images.search.protocol import BudgetSpent

if TYPE_CHECKING:
    from chimera_lib.images.search.protocol import Probe

AT_END = 10  # candidates shown to the oracle when a search ends that never came close enough to ask


class Shortlist:
    """Collects a search's points for its outcome; each is remembered once.

    Attributes:
        gaps: the image's bytes -> its top-two logit gap, for the points offered.
    """

    def __init__(self, probe: Probe) -> None:
        self.probe = probe
        self.gaps: dict[bytes, float] = {}
        self.images: dict[bytes, np.ndarray] = {}
        self.asked: set[bytes] = set()

    def offer(self, images: np.ndarray, gaps: np.ndarray) -> bool:
        """Note images, uint8 (N, H, W, 3), and their gaps (N,); ask about those within ``NOISE``, smallest first.

        Returns whether the search has its chimera. Raises BudgetSpent where the oracle calls are used up.
        """
        for index in np.argsort(gaps, kind="stable"):
            key = images[index].tobytes()
            if key in self.gaps:
                continue
            self.gaps[key], self.images[key] = float(gaps[index]), images[index]
            if gaps[index] <= NOISE:
                self.ask(key)
            if self.probe.outcome.chimera is not None:
                return True
        self.forget()
        return False

    def ask(self, key: bytes) -> None:
        """Show one of the images noted to the oracle."""
        self.asked.add(key)
        verdict = self.probe.ask(self.images[key])
        if verdict is not None and verdict.conflict[0]:
            self.probe.visit(self.images[key], self.gaps[key])

    def forget(self) -> None:
        """Let go of the pictures that could no longer be asked about; their bytes stay known."""
        kept = self.probe.budget.oracle_calls
        if len(self.images) > 4 * kept:
            best = set(self.best()[:kept]) | self.asked
            self.images = {key: image for key, image in self.images.items() if key in best}

    def best(self) -> list[bytes]:
        """The images kept, smallest gap first."""
        return sorted(self.images, key=self.gaps.__getitem__)

    def finish(self) -> None:
        """Ask about the best where nothing came within the noise, and make the points the outcome's candidates."""
        outcome, order = self.probe.outcome, self.best()[: self.probe.budget.oracle_calls]
        try:
            for key in order[: 0 if self.asked else AT_END]:
                if outcome.chimera is not None:
                    break
                self.ask(key)
        except BudgetSpent:
            pass
        outcome.candidates = [self.images[key] for key in order]
        if outcome.chimera is not None:
            others = [image for image in outcome.candidates if not np.array_equal(image, outcome.chimera)]
            outcome.candidates = [outcome.chimera, *others]
