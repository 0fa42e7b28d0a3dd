"""What a run folder of ours says, or that it says nothing that can be relied on: a run half written is no run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, METRICS, FAILED = "config.json", "metrics.jsonl", "failed.json"
RANKS = ("baseline_effective_rank", "post_attack_effective_rank")


def experiment(place: Path) -> dict[str, Any] | None:
    """The ``experiment`` of a run's config; None where the run failed, or has no config that can be read."""
    try:
        content = None if (place / FAILED).exists() else json.loads((place / CONFIG).read_text())
    except (OSError, ValueError):
        return None
    there = content.get("experiment") if isinstance(content, dict) else None
    return there if isinstance(there, dict) else None


def records(place: Path) -> dict[str, Any] | None:
    """All records of a run in one; None where a line cannot be read, or no rank of before or of after is there."""
    found: dict[str, Any] = {}
    try:
        for line in (place / METRICS).read_text().splitlines():
            found |= json.loads(line)
    except (OSError, ValueError, TypeError):
        return None
    return found if all(isinstance(found.get(name), (int, float)) for name in RANKS) else None


def shared(there: dict[str, Any]) -> dict[str, Any]:
    """What all runs of one call have in common, of the ``experiment`` of a config."""
    seed, run = there.get("seed"), there.get("run")
    base = seed - run if isinstance(seed, int) and isinstance(run, int) else None
    return {"faults": there.get("faults"), "steps": there.get("steps"), "base seed": base}


def without_seed(there: dict[str, Any]) -> dict[str, Any]:
    """What all runs of one series have in common, of the ``experiment`` of a config."""
    return {name: value for name, value in there.items() if name not in ("seed", "run")}
