"""Where the runs lie in a folder that a person names: in itself, in its ``raw_data``, or in the cells of a sweep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import naming, run_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUMMARY = "summary.json"  # of a sweep, above the folders of its cells
SWEPT = ("prion", "run")


def locate(folder: Path, priority: int | None = None) -> Path:
    """The folder among those that a person may mean which holds the runs. Raises ChimeraError."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ChimeraError(f"--results-dir {folder} {what}: expected a folder of runs, or one with raw_data in it")
    wanted = sorted(folder.glob(f"priority{priority}_*")) if priority else []
    places = [folder, folder / "raw_data", *(part for one in wanted for part in (one / "raw_data", one))]
    for place in [*places, folder / "prion" / "run"]:
        if place.is_dir() and cells(place):
            return place
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    there = f"it holds {', '.join(names[:6])}{', ...' * (len(names) > 6)}" if names else "it is empty"
    raise ChimeraError(
        f"no runs in {folder}: {there}; expected folders with metrics.jsonl in them, or {naming.AGGREGATE}*.csv"
    )


def cells(place: Path, notes: list[str] | None = None) -> list[Path]:
    """The folder itself where it holds runs or their tables, else those folders in it that do: a sweep's cells.

    Where the sweep's summary lies there too, its cells alone: others are left of an earlier state of the sweep or of
    the library. How many were left out is appended to `notes`.
    """

    def holds(one: Path) -> bool:
        return bool(next(run_folders(one), None) or next(one.glob(f"{naming.AGGREGATE}*.csv"), None))

    if holds(place):
        return [place]
    inside = [one for one in sorted(place.iterdir()) if one.is_dir() and not one.name.startswith(".") and holds(one)]
    named = _named(place.parent.parent / SUMMARY) if (place.parent.name, place.name) == SWEPT else None
    if named is None:
        return inside
    taken = [one for one in inside if one.name in named]
    if notes is not None and len(taken) < len(inside):
        left = len(inside) - len(taken)
        notes.append(f"{left} cell{'s' * (left > 1)} left out that the sweep's {SUMMARY} does not name")
    if notes is not None and len(taken) < len(named):
        notes.append(f"{len(named) - len(taken)} of the sweep's {len(named)} cells have no runs here")
    return taken


def _named(path: Path) -> set[str] | None:
    """The ids of the cells that a sweep's summary lists; None where there is no such file that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(cell["id"]) for cell in content["cells"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None


def run_folders(place: Path) -> Iterator[Path]:
    for path in sorted(place.iterdir()):
        # Runs that heal a model after an attack are of another layout and ask another question.
        if not path.name.startswith(".") and "healing" not in path.name and path.is_dir() and run_folder.is_run(path):
            yield path
