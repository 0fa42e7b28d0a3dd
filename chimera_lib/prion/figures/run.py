"""The two pictures that a run leaves in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib import plotting

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.prion.experiment import Outcome


def draw(outcome: Outcome, folder: Path) -> None:
    """Save ``spectral_decay.png`` (singular values before and after) and ``loss.png`` (on what was shown, by step)."""
    from matplotlib.figure import Figure

    plotting.style()
    decay, loss = Figure(), Figure()
    axes = decay.subplots()
    for measured, label in ((outcome.before, "before"), (outcome.after, "after")):
        values = measured.singular_values
        axes.plot(range(1, len(values) + 1), values, label=f"{label}: effective rank {measured.effective_rank:.1f}")
    axes.set(yscale="log", xlabel="number of the singular value", ylabel="share of their sum")
    axes.legend()
    axes = loss.subplots()
    axes.plot(range(len(outcome.losses)), outcome.losses)
    axes.set(xlabel="step", ylabel="loss on what was shown (nats a token)")
    for name, figure in (("spectral_decay", decay), ("loss", loss)):
        (folder / f"{name}.png").write_bytes(plotting.png(figure))
