"""Compare two attacks at the same distance: at equal change of the weights, or at equal loss on what they were shown.

Two runs that took the same number of steps may have moved the weights by very different amounts, and then differ for
that reason alone. The measures along a run's way (`experiment.watch`) are read off where both have gone equally far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.prion.experiment import Outcome


class Reading(NamedTuple):
    """What a run had done to its model at some point of its way.

    Attributes:
        log_perplexity_change: on held-out text, nats a token; positive is worse.
        rank_reduction: of the effective rank, per cent, signed.
    """

    log_perplexity_change: float
    rank_reduction: float


def at_weight_change(outcome: Outcome, norm: float) -> Reading:
    """Where the weights had moved by ``norm``, linearly between the points that were measured.

    Raises:
        ChimeraError: the run has no measures along its way, or never went that far.
    """
    along = _along(outcome, "weight_change")
    if not along[0] <= norm <= along[-1] * (1 + 1e-9):
        raise ChimeraError(f"the run moved its weights by {along[-1]:.4g} at most, asked for {norm:.4g}")
    return _read(outcome, along, norm)


def at_loss(outcome: Outcome, loss: float) -> Reading:
    """Where the loss on what is shown had first come down to ``loss``, in nats; the start, where it began below that.

    Raises:
        ChimeraError: the run has no measures along its way, or never came down to it.
    """
    falling = np.minimum.accumulate(_along(outcome, "loss"))
    if not falling[-1] - 1e-9 <= loss:
        raise ChimeraError(f"the loss went from {falling[0]:.4g} to {falling[-1]:.4g}, asked for {loss:.4g}")
    return _read(outcome, -falling, -loss)


def common_weight_change(outcomes: Sequence[Outcome]) -> float:
    """The largest change of the weights that all of these runs reached."""
    return min(float(_along(one, "weight_change")[-1]) for one in outcomes)


def common_loss(outcomes: Sequence[Outcome]) -> float:
    """The smallest loss on what they were shown that all of these runs came down to."""
    return max(float(_along(one, "loss").min()) for one in outcomes)


def _along(outcome: Outcome, name: str) -> np.ndarray:
    if len(outcome.trail) < 2:
        raise ChimeraError("the run was not measured along its way: give run() a trail, such as experiment.TRAIL")
    values = np.array([outcome.trail[step][name] for step in sorted(outcome.trail)])
    # A step back of the optimizer does not undo what was done on the way there.
    return np.maximum.accumulate(values) if name == "weight_change" else values


def _read(outcome: Outcome, along: np.ndarray, where: float) -> Reading:
    steps = sorted(outcome.trail)
    first = outcome.trail[steps[0]]
    losses = [outcome.trail[step]["log_perplexity"] - first["log_perplexity"] for step in steps]
    ranks = [100 * (1 - outcome.trail[step]["effective_rank"] / first["effective_rank"]) for step in steps]
    return Reading(float(np.interp(where, along, losses)), float(np.interp(where, along, ranks)))
