"""One run folder: its config.json, metrics.jsonl and failed.json, taken as they are, half written or not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chimera_lib.prion.analysis import naming

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG, METRICS, FAILED = "config.json", "metrics.jsonl", "failed.json"
_LOST = ("step", "timestamp")
_COURSE = "treatment_"  # records of the course of a run, of which nothing is averaged


@dataclass(frozen=True)
class Content:
    """What a run folder holds.

    Attributes:
        facts: the leaves of config.json by their own name, the first of a name counting; empty without the file.
        metrics: the numbers of metrics.jsonl by name, the last of a name counting.
        recorded: metrics.jsonl is there.
        finished: it holds a record of the state after the attack.
        failure: what failed.json says, or empty.
        last_step: of the last record; None where there is none.
        notes: files and lines that could not be read.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    recorded: bool = False
    finished: bool = False
    failure: str = ""
    last_step: float | None = None
    notes: tuple[str, ...] = ()


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, or was going to; a config alone makes one under the name of a run only."""
    if (folder / METRICS).is_file() or (folder / FAILED).is_file():
        return True
    name = naming.parse(folder.name)
    named = name.run is not None or bool(name.precision) or naming.is_published(folder.name)
    return named and (folder / CONFIG).is_file()


def load(folder: Path) -> Content:
    """Read a run folder; what cannot be read is noted, not raised."""
    notes: list[str] = []
    config = _json(folder / CONFIG, notes)
    facts: dict[str, Any] = {}
    for name, value in _leaves(config if isinstance(config, dict) else {}):
        facts.setdefault(name, value)
    records, lost = _records(folder / METRICS)
    if lost:
        notes.append(f"{folder.name}/{METRICS}: {lost} line{'s' * (lost > 1)} cut short or no JSON, left out")
    metrics = {
        name: float(value)
        for record in records
        for name, value in record.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        if name not in _LOST and not name.startswith(_COURSE)
    }
    steps = [record["step"] for record in records if isinstance(record.get("step"), (int, float))]
    return Content(
        facts=facts,
        metrics=metrics,
        recorded=(folder / METRICS).is_file(),
        finished=any(name.startswith("post_attack_") for name in metrics),
        failure=_failure(folder / FAILED),
        last_step=steps[-1] if steps else None,
        notes=tuple(notes),
    )


def number(text: Any) -> float | None:
    """A number that stands in a table or a JSON file, NaN and infinities included; None for anything else."""
    if isinstance(text, bool) or text is None:
        return None
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def rank_problem(before: float | None, after: float | None) -> str:
    """Why no change can be taken between two ranks; empty where one can."""
    for name, value in (("baseline", before), ("post_attack", after)):
        if value is None:
            return f"no rank in its {name} record"
        if not math.isfinite(value):
            return f"{name} rank is {value}"
    return "baseline rank is 0" if before == 0 else ""


def _records(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a JSON Lines file, and how many lines are none."""
    if not path.is_file():
        return [], 0
    records, lost = [], 0
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line)  # Python's reader knows NaN and Infinity
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            lost += 1
    return records, lost


def _json(path: Path, notes: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        notes.append(f"{path.parent.name}/{path.name} is no JSON, left out")
        return None


def _failure(path: Path) -> str:
    if not path.is_file():
        return ""
    content = _json(path, [])
    if not isinstance(content, dict):
        return f"{FAILED} without a readable reason"
    parts = [str(content[name]) for name in ("error", "reason") if content.get(name)]
    return " ".join(": ".join(parts).split()) or f"{FAILED} without a reason"


def _leaves(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield name, value
