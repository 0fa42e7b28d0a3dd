"""What a sweep adds to each of its cells: ``chimera sweep`` on the local engine and on Ray, beside bare peers.

``python benchmarks/sweep_overhead.py`` times sweeps of trivial cells, one cell at a time. A notebook adds two numbers;
its peer is papermill alone, executing the same notebook with the same parameters. A command lists an empty folder; its
peer is a bare subprocess with the same words. The time of a sweep is from its command to its end, the start and the end
of the engine included. Reported are, for each kind, engine and number of cells: the overhead, seconds a cell of the
sweep less the median of the peer's; and the ratio, seconds a cell of the sweep over each of the peer's times, its
median with its 95 % bootstrap interval. The peer is timed before and after the sweeps, half of its cells each.

Starting a kernel takes a second or more, so that by default there are 10 and 40 notebooks, and 10 and 200 commands.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import reporting

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENGINES = ("local", "ray")
KINDS = ("notebook", "command")
PEERS = {"notebook": "papermill alone", "command": "a bare subprocess"}
NOTEBOOK = "images/01-trivial"
# n is as many slashes behind the folder, which all name the same one: a value that changes nothing.
COMMAND = ("ternary", "clean", "{output}{n}")


def project(folder: Path) -> Path:
    """A project with one trivial notebook, in a folder of its own."""
    profiles = folder / "notebooks" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "quick.yml").write_text("{}\n")
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {"tags": tags},
            "outputs": [],
            "source": source,
        }
        for number, (tags, source) in enumerate([(["parameters"], "n: int = 0  # a number"), ([], "n + 1")])
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "notebooks" / f"{NOTEBOOK}.ipynb"
    path.parent.mkdir()
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}))
    return folder


def sweep(root: Path, kind: str, engine: str, cells: int) -> float:
    """Seconds that a sweep of ``cells`` cells of a kind takes, from its command to its end.

    Raises:
        ChimeraError: the sweep failed; the message has its last line.
    """
    what: dict[str, Any] = {"notebook": NOTEBOOK} if kind == "notebook" else {"command": list(COMMAND)}
    grid = list(range(1, cells + 1)) if kind == "notebook" else ["/" * n for n in range(1, cells + 1)]
    file, output = root / "sweep.yml", root / "out"
    file.write_text(json.dumps({"name": "overhead", **what, "grid": {"n": grid}, "engine": engine}))
    words = ["sweep", str(file), "--output", str(output), "--jobs", "1"]
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "chimera_lib.cli", *words], cwd=root, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode != 0:
        raise ChimeraError(f"the sweep of {cells} {kind}s on {engine} failed: {done.stderr.strip().splitlines()[-1]}")
    shutil.rmtree(output)
    return seconds


def peer(root: Path, kind: str, cells: int) -> np.ndarray:
    """Seconds (cells,) of each of as many cells of a kind without a sweep; papermill's import is left out."""
    if kind == "command":
        words = [sys.executable, "-m", "chimera_lib.cli", *(word.format(output=root, n="/") for word in COMMAND)]
        return timed(lambda _: subprocess.run(words, check=True, capture_output=True), cells)
    import papermill

    source, target = root / "notebooks" / f"{NOTEBOOK}.ipynb", root / "peer.ipynb"
    return timed(
        lambda n: papermill.execute_notebook(str(source), str(target), parameters={"n": n}, progress_bar=False), cells
    )


def timed(call: Callable[[int], object], times: int) -> np.ndarray:
    """Seconds (times,) of each of as many calls, which are given their number from 1."""
    seconds = np.empty(times)
    for turn in range(times):
        begun = time.perf_counter()
        call(turn + 1)
        seconds[turn] = time.perf_counter() - begun
    return seconds


def measure(kind: str, cells: Sequence[int], chosen: argparse.Namespace) -> dict[str, Any]:
    """Time, print and return what was asked for of one kind of cells, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        root = project(Path(folder) / "project")
        first = peer(root, kind, chosen.peer_cells // 2)
        whole = {(engine, number): sweep(root, kind, engine, number) for number in cells for engine in chosen.engines}
        bare = np.concatenate([first, peer(root, kind, chosen.peer_cells - len(first))])
    print(f"\n{kind}s; {PEERS[kind]}: {np.median(bare):.2f} s a cell (median of {len(bare)})")
    print(f"{'':<12}{'cells':>6}{'s a cell':>10}{'overhead s':>12}   x peer")
    metrics: dict[str, Any] = {f"{kind}_peer_seconds": {"value": float(np.median(bare)), "n": len(bare)}}
    for (engine, number), seconds in whole.items():
        each = seconds / number
        ratio = reporting.ratio(np.full(len(bare), each), bare)
        over = each - float(np.median(bare))
        print(f"{engine:<12}{number:>6}{each:>10.2f}{over:>12.2f}   {reporting.said(ratio, 2)}", flush=True)
        metrics[f"{kind}_{engine}_{number}_overhead_seconds"] = {"value": over, "n": number}
        metrics[f"{kind}_{engine}_{number}_ratio"] = ratio
    return metrics


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    number = reporting.whole(1, 10_000)
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of cells")
    add("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="engines")
    add("--notebooks", nargs="+", type=number, default=[10, 40], help="cells in the sweeps of a notebook")
    add("--commands", nargs="+", type=number, default=[10, 200], help="cells in the sweeps of a command")
    add("--peer-cells", type=reporting.whole(2, 10_000), default=20, help="cells of each kind that the peer executes")
    add("--record", type=reporting.file, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    metrics: dict[str, Any] = {}
    for kind in chosen.kinds:
        metrics |= measure(kind, chosen.notebooks if kind == "notebook" else chosen.commands, chosen)
    reporting.record(chosen.record, "sweep_overhead.py", metrics)


if __name__ == "__main__":
    reporting.main(run, arguments)
