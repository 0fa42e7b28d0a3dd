"""How part III's benchmarks say what they measured: a ratio with its interval, a record, a refusal in one line."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from chimera_lib import recorded, stats
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Chosen = TypeVar("Chosen")

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} to {most}")
        return int(text)

    return read


def file(text: str) -> Path:
    """The type of ``--record``: a file that can be made, asked before the measuring and not after it."""
    path = Path(text)
    if path.is_dir() or any(parent.exists() and not parent.is_dir() for parent in path.parents):
        raise argparse.ArgumentTypeError(f"{text}: expected a file to write, such as book/recorded/name.json")
    return path


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, Any]:
    """The median of the ratios of paired times (N,), its 95 % bootstrap interval, and N, as `recorded.write` wants it.

    A pair is of one moment, so that what else the machine does is in both of its times.
    """
    ratios = above / below
    low, high = stats.bootstrap(ratios)
    return {"value": float(np.median(ratios)), "n": len(ratios), "ci": [low, high]}


def said(metric: Mapping[str, Any], digits: int) -> str:
    """A ratio and its interval."""
    low, high = metric["ci"]
    return f"{metric['value']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def command(script: str, words: Sequence[str]) -> str:
    """The command line that a reader types to measure again, ``--record`` and its path last."""
    rest, path = [], ""
    following = iter(words)
    for word in following:
        if word == "--record":
            path = next(following, "")
        elif word.startswith("--record="):
            path = word.partition("=")[2]
        else:
            rest.append(word)
    return shlex.join(["python", f"benchmarks/{script}", *rest, *(["--record", path] if path else [])])


def record(
    path: Path | None,
    script: str,
    metrics: Mapping[str, Any],
    backends: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Write the metrics of a script of this folder to the file that the user named, if any, and say so."""
    if path is not None:
        recorded.write(path, command(script, sys.argv[1:]), metrics, backends)
        print(f"metrics in {path}")


def main(run: Callable[[Chosen], None], arguments: Callable[[Sequence[str]], Chosen]) -> None:
    """Run with the words of the command line; a mistake that the user can mend is one line and status 2."""
    try:
        run(arguments(sys.argv[1:]))
    except (ChimeraError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
