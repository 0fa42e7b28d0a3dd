"""What a notebook calls to write down what it has measured, and what prose calls to read it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_DIR = "CHIMERA_RUN_DIR"
METRICS = "metrics.json"


def run_dir() -> Path | None:
    """The folder of the run in progress, or ``None`` in an interactive session."""
    folder = os.environ.get(RUN_DIR)
    return Path(folder) if folder else None


def record(*, n: int | None = None, ci: Sequence[float] | None = None, **metrics: float | bool | str) -> None:
    """Write metrics into ``metrics.json`` of the run in progress, or print them where there is no run.

    ``record(chimera_rate=0.97, n=200, ci=(0.93, 0.99))`` makes the number quotable in the book's prose. Calls add up.

    Args:
        n: the number of independent observations behind every metric of this call.
        ci: (low, high), the confidence interval of every metric of this call, in the metric's unit.
        **metrics: finite numbers, booleans or strings by name; NumPy and torch scalars are converted.

    Raises:
        ChimeraError: a metric was recorded before, or a value, ``n`` or ``ci`` is not what it should be.
    """
    entries = {name: _entry(name, value, n, ci) for name, value in metrics.items()}
    folder = run_dir()
    if folder is None:
        for name, entry in entries.items():
            print(describe(name, entry))
        return
    path = folder / METRICS
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name in entries:
        if name in before:
            raise ChimeraError(f"metric {name!r} is recorded twice in one run; give the second one another name")
    # Replaced whole: a kernel that is killed here leaves the old file or the new one.
    fresh = path.with_name(f".{METRICS}.{os.getpid()}")
    fresh.write_text(json.dumps(before | entries, indent=2) + "\n")
    fresh.replace(path)


def describe(name: str, entry: dict[str, Any]) -> str:
    """One metric as a person reads it, e.g. ``chimera_rate = 0.97 (0.93 to 0.99, n = 200)``."""
    value = entry["value"]
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    notes = []
    if "ci" in entry:
        notes.append("{:.4g} to {:.4g}".format(*entry["ci"]))
    if "n" in entry:
        notes.append(f"n = {entry['n']}")
    return f"{name} = {shown}" + (f" ({', '.join(notes)})" if notes else "")


def measured(reference: str, *, profile: str = "quick", output: Path | None = None) -> dict[str, Any]:
    """A metric of the newest finished run, e.g. ``measured("images/02-boundary:chimera_rate")``.

    Args:
        reference: ``NOTEBOOK:METRIC``.
        profile: the profile whose runs are searched.
        output: the folder of runs; default ``runs`` in the project.

    Returns:
        ``{"value": ...}`` with ``"n"`` and ``"ci"`` where they were recorded.

    Raises:
        ChimeraError: no finished run of the notebook, or no such metric in it.
    """
    from chimera_lib.runs.notebooks import project_root
    from chimera_lib.runs.store import Store

    notebook, colon, metric = reference.partition(":")
    if not colon:
        raise ChimeraError(f"{reference!r} is no metric; write NOTEBOOK:METRIC, e.g. images/02-boundary:chimera_rate")
    store = Store(output or project_root() / "runs")
    runs = [run for run in store.runs() if (run.notebook, run.profile) == (notebook, profile)]
    if not runs:
        raise ChimeraError(
            f"no finished run of {notebook!r} under profile {profile!r}; "
            f"make one: chimera run {notebook} --profile {profile}"
        )
    metrics = runs[-1].metrics
    if metric not in metrics:
        raise UnknownName(f"metric of {notebook}", metric, metrics)
    return metrics[metric]


def _entry(name: str, value: Any, n: int | None, ci: Sequence[float] | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": _scalar(name, value)}
    if n is not None:
        count = _scalar("n", n)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ChimeraError(f"n of metric {name!r} is {n!r}; it must be a whole number, the observations behind it")
        entry["n"] = count
    if ci is not None:
        bounds = [bound for bound in (_scalar(f"ci of {name}", b) for b in ci) if not isinstance(bound, str)]
        if not (len(ci) == len(bounds) == 2 and bounds[0] <= bounds[1]):
            raise ChimeraError(f"ci of metric {name!r} is {ci!r}; it must be (low, high) with low <= high")
        entry["ci"] = bounds
    return entry


def _scalar(name: str, value: Any) -> float | bool | str:
    """A plain Python number, boolean or string; zero-dimensional arrays and tensors are unwrapped."""
    if not isinstance(value, (bool, int, float, str)) and hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as error:
            raise ChimeraError(f"metric {name!r} holds several numbers; record them one by one") from error
    if not isinstance(value, (bool, int, float, str)):
        raise ChimeraError(f"metric {name!r} is a {type(value).__name__}; record a number, a boolean or a string")
    if isinstance(value, float) and not math.isfinite(value):
        raise ChimeraError(f"metric {name!r} is {value}; only finite numbers can be recorded")
    # numpy.float64 and numpy.str_ are subclasses of the Python types and pass through json as they are.
    return value
