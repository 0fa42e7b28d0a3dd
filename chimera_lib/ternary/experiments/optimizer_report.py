"""What comparisons of optimizers say: metrics to record, a table for the terminal, rows for a notebook."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.ternary.experiments.optimizer_comparison import Row

__all__ = ["as_rows", "as_text", "metrics", "totals", "verdict"]

LEVEL = 0.05  # of the corrected p values


def verdict(row: Row) -> str:
    """In a word: ``"better"`` or ``"worse"`` than AdamW by the corrected p value, else ``"no difference seen"``."""
    if row.difference is None or row.p_holm is None:
        return "diverged" if row.diverged else ""
    if row.p_holm >= LEVEL:
        return "no difference seen"
    return "better" if row.difference < 0 else "worse"


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """How many comparisons with AdamW came out better, worse, without a difference seen, or diverged."""
    said = [verdict(row) for row in rows]
    return {word: said.count(word) for word in ("better", "worse", "no difference seen", "diverged")}


def metrics(rows: Sequence[Row], prefix: str = "") -> dict[str, Any]:
    """Metrics for ``chimera_lib.recorded.write``, named ``{prefix}{problem}_{optimizer}_...``.

    ``loss`` and ``difference`` (a share of AdamW's loss) carry n and Student's 95 % interval, ``difference_bootstrap``
    the bootstrap's. What a divergence leaves without a number is left out; ``diverged`` counts the seeds.
    """
    found: dict[str, Any] = {}
    for row in rows:
        name = f"{prefix}{row.task.problem}_{row.optimizer}"
        found[f"{name}_learning_rate"] = row.learning_rate
        found[f"{name}_diverged"] = {"value": row.diverged, "n": row.n}
        if row.tuned is not None:
            found[f"{name}_at_edge"] = row.edge or "no"
        if row.loss_ci is not None:
            found[f"{name}_loss"] = {"value": row.loss, "n": row.n, "ci": row.loss_ci}
        if row.difference is not None:
            found[f"{name}_difference"] = {"value": row.difference, "n": row.n, "ci": row.difference_ci}
            found[f"{name}_difference_bootstrap"] = {"value": row.difference, "n": row.n, "ci": row.bootstrap_ci}
            found[f"{name}_p_holm"] = row.p_holm
        if math.isfinite(row.step_ms):
            found[f"{name}_step_ms"] = row.step_ms
        found[f"{name}_state_bytes"] = row.state_bytes
    return found


def as_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for ``plotting.table``: differences in percent of AdamW's loss."""
    return [
        {
            "problem": row.task.problem,
            "optimizer": row.optimizer,
            "learning rate": row.learning_rate,
            "edge of grid": row.edge,
            "loss": row.loss if math.isfinite(row.loss) else None,
            "% to AdamW": None if row.difference is None else 100 * row.difference,
            "95 % interval": _interval(row),
            "p (Holm)": row.p_holm,
            "diverged": row.diverged,
            "verdict": verdict(row),
        }
        for row in rows
    ]


def as_text(rows: Sequence[Row]) -> str:
    """A table of fixed width, one line a row."""
    head = ("problem", "optimizer", "lr", "edge", "loss", "to AdamW", "95 % interval", "p Holm", "ms/step", "bytes")
    lines = [head, *(_line(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _line(row: Row) -> tuple[str, ...]:
    return (
        row.task.problem,
        row.optimizer,
        f"{row.learning_rate:.4g}",
        row.edge or "-",
        f"{row.diverged} of {row.n} diverged" if row.diverged else f"{row.loss:.4g}",
        "-" if row.difference is None else f"{_percent(row.difference)} %",
        _interval(row) or "-",
        "-" if row.p_holm is None else f"{row.p_holm:.2g}",
        f"{row.step_ms:.3f}",
        str(row.state_bytes),
    )


def _interval(row: Row) -> str:
    between = row.difference_ci
    return "" if between is None else f"{_percent(between.low)} to {_percent(between.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:+.2f}" if abs(share) < 1 else f"{100 * share:+.3g}"
