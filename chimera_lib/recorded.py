"""Metrics of long commands, kept with what made them, so that no number in the book is written by hand.

A command that takes hours writes its metrics to `book/recorded/NAME.json` together with its own command line, the
date, the machine, the versions and the git revision; the table of figures and the prose read them from there.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PACKAGES = (
    "numpy",
    "torch",
    "onnxruntime",
    "scipy-openblas32",
    "blis",
    "mkl",
    "openvino",
    "jax",
    "torchao",
    "transformers",
)
_FIELDS = ("command", "date", "machine", "versions", "revision", "metrics")


def write(
    path: Path | str,
    command: str | Sequence[str],
    metrics: Mapping[str, Any],
    backends: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Write a command's metrics, with its date, machine, versions and revision, whole or not at all.

    Args:
        path: Where to, such as `book/recorded/lattice.json`; an older file there is replaced.
        command: The command line that a reader types to get these numbers.
        metrics: Name to a number, truth value or text, or to `{"value": ..., "n": ..., "ci": [low, high]}`.
        backends: What each backend that was measured says it is (name to facts), where the metrics are of backends.

    Returns:
        What was written.

    Raises:
        ChimeraError: A metric without a value, or with one that is no finite number, truth value or text.
    """
    path = Path(path)
    line = command if isinstance(command, str) else " ".join(command)
    content = {
        "command": line,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "revision": revision(),
        "metrics": {name: _metric(name, value) for name, value in metrics.items()},
    }
    if backends is not None:
        content["backends"] = {name: dict(facts) for name, facts in backends.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return content


def read(path: Path | str) -> dict[str, Any]:
    """Read what `write` wrote.

    Raises:
        ChimeraError: The file is missing, is no JSON, or lacks a field.
    """
    path = Path(path)
    if not path.is_file():
        raise ChimeraError(f"no recorded metrics at {path}: run the command that writes them (book/figures.yml has it)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChimeraError(f"{path} is no JSON ({error}): delete it and run its command again") from error
    missing = [f for f in _FIELDS if not isinstance(content, dict) or f not in content]
    if missing:
        raise ChimeraError(f"{path} lacks {', '.join(missing)}: write it with chimera_lib.recorded.write")
    return content


def command_line() -> str:
    """The command line of this process as a reader types it: ``chimera`` and its words."""
    return shlex.join(["chimera", *sys.argv[1:]])


def _metric(name: str, value: Any) -> dict[str, Any]:
    given = dict(value) if isinstance(value, dict) else {"value": value}
    if "value" not in given or set(given) - {"value", "n", "ci"}:
        raise ChimeraError(f"metric {name!r} has the fields {sorted(given)}: expected value, and perhaps n and ci")
    given = {key: _plain(item) for key, item in given.items() if item is not None}
    number = given.get("value")
    if not isinstance(number, (bool, int, float, str)) or (isinstance(number, float) and not math.isfinite(number)):
        raise ChimeraError(f"metric {name!r} is {number!r}: expected a finite number, a truth value or a text")
    return given


def _plain(value: Any) -> Any:
    """Turn numpy's scalars and tuples of them into what JSON knows."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def machine() -> str:
    """Name the machine for a reader: processor, cores that this process may use, and system; never its host name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_processor()}, {cores} core{'s' * (cores > 1)}, {platform.system()} {platform.machine()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Give the versions of Python, of this package and of those installed packages whose arithmetic matters."""
    found = {"python": platform.python_version()}
    for package in ("chimera-lib", *_PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional backend that is not installed has no version to tell
    return found


def revision(folder: Path | None = None) -> str:
    """Give the git revision of the project, `+changes` behind it where files differ; empty outside of git."""
    where = folder or Path(__file__).resolve().parent
    try:
        head = _git(where, "rev-parse", "--short=12", "HEAD")
        # Other recordings, being rewritten one by one, say nothing about the code.
        changed = _git(
            where, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)book/recorded"
        )
    except (OSError, subprocess.CalledProcessError):  # no git here, or no repository: nothing to tell
        return ""
    return head + ("+changes" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()
