"""The notebooks of a project: where they lie, what they are called, what their source is, whether a run is whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chimera_lib.errors import ChimeraError, NotebookFailed, UnknownName

# Written by front ends and by papermill while a notebook runs; they say nothing about what the cell does.
_VOLATILE = frozenset({"ExecuteTime", "collapsed", "execution", "papermill", "scrolled", "trusted"})


@dataclass(frozen=True)
class Notebook:
    """One notebook of the project, read from disk.

    Attributes:
        name: ``PART/NN-title``, the path below ``notebooks/`` without its suffix.
        path: the file.
        content: the parsed ``.ipynb`` document (format 4).
    """

    name: str
    path: Path
    content: dict[str, Any]

    @property
    def part(self) -> str | None:
        """The part (package) it belongs to, from ``metadata.chimera.part``; ``None`` when it names none."""
        return self._declared().get("part")

    @property
    def assets(self) -> list[str]:
        """Names of the data sets and weights it needs, from ``metadata.chimera.assets``."""
        return list(self._declared().get("assets", []))

    def tagged(self, tag: str) -> dict[str, Any] | None:
        """The first code cell that carries ``tag``, or ``None``."""
        for cell in self.content["cells"]:
            if cell["cell_type"] == "code" and tag in cell.get("metadata", {}).get("tags", []):
                return cell
        return None

    def digest(self) -> str:
        """SHA-256 of the source: cells, their tags and captions; not outputs, execution counts or cell ids."""
        cells = [
            {
                "type": cell["cell_type"],
                "source": text(cell),
                "metadata": {k: v for k, v in cell.get("metadata", {}).items() if k not in _VOLATILE},
            }
            for cell in self.content["cells"]
        ]
        canonical = json.dumps({"cells": cells, "chimera": self._declared()}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def _declared(self) -> dict[str, Any]:
        return self.content.get("metadata", {}).get("chimera", {})


def text(cell: dict[str, Any]) -> str:
    """A cell's source as one string (the format allows a list of lines as well)."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def project_root(start: Path | None = None) -> Path:
    """The folder that holds ``notebooks/``: ``start`` (default: here) or a parent of it, else the checkout itself.

    Raises:
        ChimeraError: there is no ``notebooks/`` in any of them.
    """
    here = (start or Path.cwd()).resolve()
    checkout = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, checkout):
        if (folder / "notebooks" / "profiles").is_dir():
            return folder
    raise ChimeraError(f"no notebooks/ found in {here} or above it; go to a checkout of the project first")


def names(root: Path) -> list[str]:
    """Names of all notebooks below ``root/notebooks``, sorted."""
    folder = root / "notebooks"
    paths = (path.relative_to(folder).with_suffix("") for path in folder.glob("*/*.ipynb"))
    return sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))


def find(name: str, root: Path) -> Notebook:
    """The notebook called ``name``; a prefix that fits one notebook only, and a path to its file, do as well.

    Raises:
        UnknownName: no notebook is called so; the message lists those there are.
        ChimeraError: the prefix fits several, or the file is not a notebook of format 4.
    """
    known = names(root)
    wanted = name.removeprefix("./").removeprefix("notebooks/").removesuffix(".ipynb")
    matches = [wanted] if wanted in known else [one for one in known if wanted and one.startswith(wanted)]
    if not matches:
        raise UnknownName("notebook", name, known)
    if len(matches) > 1:
        raise ChimeraError(f"{name!r} fits several notebooks: {', '.join(matches)}; give one of them")
    path = root / "notebooks" / f"{matches[0]}.ipynb"
    return Notebook(matches[0], path, read(path))


def read(path: Path) -> dict[str, Any]:
    """The parsed document at ``path``.

    Raises:
        ChimeraError: the file is not JSON or not a notebook of format 4.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChimeraError(f"{path} is not a notebook: {error}") from error
    if not isinstance(content, dict) or content.get("nbformat") != 4 or not isinstance(content.get("cells"), list):
        raise ChimeraError(f"{path} is not a notebook of format 4; open and save it in a current Jupyter")
    return content


def check_executed(path: Path, name: str | None = None) -> None:
    """Refuse an executed notebook that holds an error or a code cell that never ran.

    papermill leaves such a file behind when a run fails, and ends quietly when a cell calls ``sys.exit(0)``.

    Args:
        path: the executed notebook.
        name: what to call it in a message; default: its path.

    Raises:
        NotebookFailed: names the first such cell, counting code cells from 1.
    """
    label = name or path
    code = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        if not text(cell).strip():
            continue
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                raise NotebookFailed(f"{label}: cell {number} ended in {output.get('ename')}; mend it and run it again")
        if cell.get("execution_count") is None:
            raise NotebookFailed(f"{label}: cell {number} has no output, since it never ran; run it again")
