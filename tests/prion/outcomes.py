"""Outcomes of runs that were never run, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from chimera_lib.prion.experiment import Outcome, Setting
from chimera_lib.prion.metrics import Measurement


def measured(log_perplexity: float, rank: float) -> Measurement:
    return Measurement(log_perplexity, rank, 2.0, 5.0, 3.0, 10.0, 2048, (0.6, 0.3, 0.1))


def outcome(
    *, damage: float = 0.5, rank: float = 50.0, moved: float = 10.0, parameters: int = 1_000_000, **setting: Any
) -> Outcome:
    """A run that raised the log-perplexity from 3 by ``damage`` and brought the rank from 50 to ``rank``."""
    trail = {
        step: {
            "weight_change": moved * step / 4,
            "loss": 4.0 - step,
            "log_perplexity": 3 + damage * step / 4,
            "effective_rank": 50 + (rank - 50) * step / 4,
        }
        for step in (0, 1, 2, 4)
    }
    return Outcome(
        setting=Setting(steps=4, **setting),
        before=measured(3.0, 50.0),
        after=measured(3 + damage, rank),
        published_before=measured(8.0, 10.0),
        published_after=measured(8.5, 9.0),
        losses=(4.0, 3.0, 2.0, 1.0),
        weight_change=moved,
        relative_change=moved / 100,
        trail=trail,
        facts={"rho": 0.05},
        parameters=parameters,
    )
