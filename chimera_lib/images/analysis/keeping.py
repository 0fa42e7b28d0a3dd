"""Results kept one JSON line each, so that a killed measurement goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images.campaign import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from chimera_lib.images.oracle import Oracle


def settings(oracle: Oracle, **more: Any) -> dict[str, Any]:
    """What results depend on: the network, the backends as they describe themselves, and ``more``, JSON-able."""
    said = {name: f"{facts['version']} {facts['kernels']}" for name, facts in oracle.info().items()}
    return {"network": oracle.network.sha256, "backends": said, **more}


def digest(images: np.ndarray) -> str:
    """The first half of the sha256 of images uint8, to know them again by."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()[:32]


class Kept:
    """The lines of one measurement in a folder: ``settings.json`` and ``rows.jsonl``.

    Args:
        folder: made where it is missing.
        settings: what the results depend on; a folder of other settings is refused (ChimeraError).
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        head, self.path = folder / "settings.json", folder / "rows.jsonl"
        wanted = json.loads(json.dumps(settings))
        if not head.is_file():
            write_whole(head, json.dumps(wanted, indent=2).encode())
        try:
            found = json.loads(head.read_bytes())
        except ValueError as error:
            raise ChimeraError(f"{head}: damaged; delete {folder} or name another --output") from error
        if found != wanted:
            raise ChimeraError(f"{folder} holds results of other settings; name another --output or delete it")
        self.rows: list[dict[str, Any]] = []
        whole = b""
        for line in self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else ():
            try:
                self.rows.append(json.loads(line))
            except ValueError:  # cut short by a kill: measured again
                continue
            whole += line if line.endswith(b"\n") else line + b"\n"
        write_whole(self.path, whole)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, on disk when this returns."""
        self.rows += [dict(row) for row in rows]
        with self.path.open("ab") as file:
            file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
