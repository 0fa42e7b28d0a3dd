"""What the ``chimera ternary`` commands leave behind, told from other files by what is in it, not by its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import checkpoint, log, rows

if TYPE_CHECKING:
    from pathlib import Path


def find(folder: Path) -> list[Path]:
    """Logs, rows, checkpoints and half-written checkpoints anywhere under ``folder``, sorted; links are not followed.

    Raises:
        ChimeraError: there is no such folder.
    """
    if not folder.is_dir():
        raise ChimeraError(f"{folder}: no such folder; name one that chimera ternary has written to")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if made_here(path)]


def made_here(path: Path) -> bool:
    """Whether ``path`` is a log, rows or a checkpoint of this part; a checkpoint half written is told by its name."""
    if path.suffix == ".jsonl":
        first = _first_line(path)
        return first.keys() in (set(log.BASE), set(log.RESNET), set(log.OPTIMIZER)) or (
            first.keys() == {"made_by", "setting"} and first["made_by"] == rows.MADE_BY
        )
    return path.name.endswith(checkpoint.PARTIAL) or (path.suffix == ".safetensors" and checkpoint.is_checkpoint(path))


def _first_line(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    try:
        content = json.loads(line)
    except ValueError:  # no JSON, or no text
        return {}
    return content if isinstance(content, dict) else {}
