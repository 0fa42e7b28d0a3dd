"""Results of many runs in one JSON Lines file: added as they come, kept through a kill, never mixed with others'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


MADE_BY = "chimera ternary"


class Rows:
    """The rows of a file whose first line says what made them, and under which setting.

    Args:
        path: the file; made with its folders when the first row is added.
        setting: what all rows have in common, of what JSON can say.

    Raises:
        ChimeraError: the file is damaged, or its rows were made under another setting.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        self.path = path
        self.setting = json.loads(json.dumps(setting))
        self.rows: list[dict[str, Any]] = []
        if not path.exists() or not (kept := log.read(path)):
            return
        there = kept[0].get("setting")
        if not isinstance(there, dict):
            raise ChimeraError(f"{path} does not say how its rows were made: name another --output folder")
        differing = [
            f"{name} {there.get(name)!r}, now {self.setting.get(name)!r}"
            for name in sorted(self.setting.keys() | there.keys())
            if self.setting.get(name) != there.get(name)
        ]
        if differing:
            raise ChimeraError(
                f"{path} holds runs of another setting ({'; '.join(differing)}): name another --output folder"
            )
        self.rows = kept[1:]

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows, flushed as one."""
        rows = list(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        log.end_last_line(self.path)
        fresh = not self.path.exists() or self.path.stat().st_size == 0
        lines = ([{"made_by": MADE_BY, "setting": self.setting}] if fresh else []) + rows
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(one, allow_nan=False) + "\n" for one in lines))
        self.rows += rows
