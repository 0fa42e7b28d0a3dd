"""The table of defences, as rows, as text and as recorded metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib import recorded
from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from chimera_lib.images.defences.trial import Trial


def as_rows(trials: Mapping[str, Trial]) -> list[dict[str, object]]:
    """A row for each defence, with a reader's column names; None where a figure is not its own.

    What was measured of no defence has no column.
    """
    rows: list[dict[str, object]] = [
        {
            "defence": one["title"],
            "starts": one["n"],
            "adaptive attack": one["rate"],
            "holds in fresh processes": one["verified_rate"],
            "transferred attack": one["transferred_rate"],
            "clean accuracy": one.get("accuracy"),
            "coverage": one.get("coverage"),
            "slowdown": one.get("slowdown"),
        }
        for one in trials.values()
    ]
    measured = [column for column in rows[0] if any(row[column] is not None for row in rows)] if rows else []
    return [{column: row[column] for column in measured} for row in rows]


def as_text(trials: Mapping[str, Trial]) -> str:
    """The table for a terminal, intervals of 95 % in brackets."""
    width = max(len(one["title"]) for one in trials.values())
    lines = [
        f"{'defence':<{width}}  {'adaptive attack':>24}  {'holds':>6}  {'transferred':>11}"
        f"  {'accuracy':>24}  {'coverage':>8}  slowdown"
    ]
    for one in trials.values():
        attacked, accuracy = share(one, "rate"), share(one, "accuracy")
        covered = f"{one['coverage']:.1%}" if "coverage" in one else "-"
        slow = f"{one['slowdown']:.1f}" if "slowdown" in one else "-"
        lines.append(
            f"{one['title']:<{width}}  {attacked:>24}  {one['verified_rate']:6.1%}  {one['transferred_rate']:11.1%}"
            f"  {accuracy:>24}  {covered:>8}  {slow:>8}"
        )
    return "\n".join(lines)


def share(one: Trial, name: str) -> str:
    """A share with its interval, or a dash."""
    if name not in one:
        return "-"
    low, high = one[f"{name}_ci"]
    return f"{one[name]:.1%} ({low:.1%} to {high:.1%})"


def metrics(trials: Mapping[str, Trial]) -> dict[str, Any]:
    """One metric a defence and figure: ``vote_rate``, ``vote_accuracy``, ..."""
    out: dict[str, Any] = {}
    for key, one in trials.items():
        name = key.replace("-", "_")
        out[f"{name}_rate"] = {"value": one["rate"], "n": one["n"], "ci": one["rate_ci"]}
        out[f"{name}_verified_rate"] = {"value": one["verified_rate"], "n": one["n"], "ci": one["verified_ci"]}
        out[f"{name}_transferred_rate"] = {"value": one["transferred_rate"], "n": one["n"], "ci": one["transferred_ci"]}
        out[f"{name}_evaluations"] = {"value": one["median_evaluations"], "n": one["n"]}
        if "accuracy" in one:
            out[f"{name}_accuracy"] = {"value": one["accuracy"], "n": one["answered"], "ci": one["accuracy_ci"]}
            out[f"{name}_coverage"] = {"value": one["coverage"], "n": one["accuracy_n"], "ci": one["coverage_ci"]}
        if "slowdown" in one:
            out[f"{name}_slowdown"] = one["slowdown"]
        if "threshold" in one["settings"]:
            out[f"{name}_threshold"] = one["settings"]["threshold"]
    return out


def write_record(path: Path, trials: Mapping[str, Trial]) -> None:
    """Write the metrics to ``path`` for the table of figures."""
    backends = {name: facts for one in trials.values() for name, facts in one["backends"].items()}
    recorded.write(path, recorded.command_line(), metrics(trials), backends)


def figure(trials: Mapping[str, Trial]) -> Figure:
    """Per defence, the share of starts left with a conflict: the attack that knows it, and the transferred one."""
    import matplotlib.pyplot as plt
    import numpy as np

    drawn, axis = plt.subplots(figsize=(7, 0.5 * len(trials) + 1.2))
    rows = np.arange(len(trials))[::-1]
    for shift, colour, name, label in (
        (0.16, COLOURS[0], "rate", "attack that knows the defence"),
        (-0.16, COLOURS[1], "transferred", "found without it, shown to it"),
    ):
        key, interval = ("rate", "rate_ci") if name == "rate" else ("transferred_rate", "transferred_ci")
        shares = np.array([one[key] for one in trials.values()]) * 100
        ends = np.array([tuple(one[interval]) for one in trials.values()]) * 100
        spread = np.abs(ends - shares[:, None]).T
        axis.errorbar(shares, rows + shift, xerr=spread, fmt="o", color=colour, capsize=3, label=label)
    axis.set_yticks(rows, [one["title"] for one in trials.values()])
    axis.set(xlabel="starts with a conflict (%)", xlim=(-4, 104))
    axis.legend(loc="upper center", bbox_to_anchor=(0.35, -0.6 / (0.5 * len(trials) + 0.4)), ncols=2)
    return drawn
