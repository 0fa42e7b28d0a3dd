"""The files of a summary, each written under another name and renamed when it is whole."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from typing import TYPE_CHECKING, Any

from chimera_lib import plotting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as a table; numbers have four decimals, as the published ones, and what is missing is empty."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return _replace(path, buffer.getvalue().encode())


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write what every reader of JSON can read: numbers that are not finite become null."""
    text = json.dumps(strict(content), indent=2, allow_nan=False)
    return _replace(path, f"{text}\n".encode())


def write_png(path: Path, figure: Figure) -> Path:
    """Write a figure and close it."""
    import matplotlib.pyplot as plt

    try:
        return _replace(path, plotting.png(figure))
    finally:
        plt.close(figure)


def strict(value: Any) -> Any:
    """The same tree in what JSON knows: tuples as lists, numpy's numbers as Python's, None for what is not finite."""
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    return f"{float(value):.4f}"


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
