"""The table of finished runs that ``chimera runs`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.runs.record import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.runs.store import Run

_HEADLINES = 3
_TITLES = ("notebook", "profile", "run", "finished (UTC)", "seconds", "headline metrics")


def table(runs: Sequence[Run]) -> list[str]:
    """Lines of a table of runs, in the order given: what ran, when, how long, and its first three metrics.

    The metrics a notebook records first are its headlines; ``+2`` at the end counts those that are not shown.
    """
    rows = [_TITLES, *(_row(run) for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES) - 1)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows
    ]


def _row(run: Run) -> tuple[str, ...]:
    named = [describe(name, entry) for name, entry in run.metrics.items()]
    more = [f"+{len(named) - _HEADLINES}"] if len(named) > _HEADLINES else []
    return (
        run.notebook,
        run.profile,
        run.id[:8],
        run.environment.get("date", "?")[:16].replace("T", " "),
        f"{run.environment.get('seconds', 0):.0f}",
        "; ".join(named[:_HEADLINES] + more) or "none recorded",
    )
