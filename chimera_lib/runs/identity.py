"""The id of a run: a hash of everything that its results follow from."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib import assets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimera_lib.runs.notebooks import Notebook

PACKAGE = Path(__file__).resolve().parents[1]
PARTS = frozenset({"images", "provenance", "ternary", "vlm", "prion"})

# The command line, the builder of the site and what decides where and when a notebook runs: no notebook computes with
# them, so a change there re-runs nothing.
_VERBS = ("*/commands.py", "*/commands/*")
_NOT_COMPUTING = (
    *("cli.py", "doctor.py", "data_commands.py", "sweep_commands.py", "book/*"),
    *("runs/engine.py", "runs/local.py", "runs/events.py", "runs/progress.py", "runs/table.py"),
    *("runs/ray_*.py", "runs/remote_store.py", "runs/parcels.py", "runs/stores.py"),
    *("runs/sweep.py", "runs/sweep_file.py", "runs/summary.py"),
)
_KINDS = frozenset({".py", ".json", ".yml", ".csv", ".safetensors", ".npz"})
_TRAINED = {"prion": "prion-ladder"}  # part -> folder of the cache for weights that its command `train` made here


def run_id(notebook: Notebook, parameters: Mapping[str, Any], checksums: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits that change with the notebook's source, its parameters, the library and the assets.

    Args:
        notebook: the notebook as read from disk.
        parameters: the values that differ from its defaults (`parameters.changed`).
        checksums: asset name -> checksum, for the assets it declares.
    """
    parts = {
        "notebook": notebook.digest(),
        # repr keeps 1, 1.0 and True apart; json would not keep the order-independent, typed form of nested values.
        "parameters": sorted((name, _canonical(value)) for name, value in parameters.items()),
        "library": library_digest(PACKAGE, notebook.part),
        "assets": sorted(checksums.items()),
        "trained": _trained_by(notebook, parameters),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def command_id(words: Sequence[str], values: Mapping[str, Any], checksums: Mapping[str, str]) -> str:
    """The id of a run of a part's command, as `run_id` is that of a notebook's.

    Args:
        words: the command without ``chimera``, the part first, ``{output}`` still in it.
        values: the values that were put into it.
        checksums: asset name -> checksum, for the assets it reads.
    """
    parts = {
        "command": list(words),
        "parameters": sorted((name, _canonical(value)) for name, value in values.items()),
        "library": library_digest(PACKAGE, words[0], commands=True),
        "assets": sorted(checksums.items()),
        "trained": trained(words[0], " ".join([*words, _canonical(values)])),
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@functools.cache
def library_digest(package: Path, part: str | None, *, commands: bool = False) -> str:
    """SHA-256 of the library's files: sources and weights, without the packages of other parts.

    No part imports another, so a notebook of one part does not depend on the files of the rest.

    Args:
        package: the folder of ``chimera_lib``.
        part: the notebook's part; ``None`` takes every part in.
        commands: whether the files of the part's verbs count, which only a command computes with.
    """
    ignored = _NOT_COMPUTING if commands else (*_NOT_COMPUTING, *_VERBS)
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package)
        foreign = part in PARTS and name.parts[0] in PARTS - {part}
        if path.suffix not in _KINDS or foreign or any(name.match(pattern) for pattern in ignored):
            continue
        digest.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def trained(part: str | None, text: str) -> list[tuple[str, str]]:
    """SHA-256 of the weights trained on this machine that a run names: (file, checksum), sorted.

    No asset's checksum tells of them, and training them again changes them under the same name.

    Args:
        part: whose weights; one that trains none has none.
        text: all values that the run is given. A file counts if the model's name stands in it, and the checkpoint's
            unless that is the one that is taken where none is named.
    """
    if part not in _TRAINED:
        return []
    found = []
    for file in sorted((assets.root() / _TRAINED[part]).glob("*.safetensors")):
        model, _, rest = file.stem.partition("-matched-")
        named = model in text and (rest == "loss" or f"matched-{rest}" in text)
        if named and not (PACKAGE / "weights" / file.name).exists():  # the package's own are taken first
            found.append((file.name, hashlib.sha256(file.read_bytes()).hexdigest()))
    return found


def _trained_by(notebook: Notebook, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The weights trained here that a notebook's parameters name, defaults among them."""
    if notebook.part not in _TRAINED:
        return []
    from chimera_lib.runs import parameters

    return trained(notebook.part, _canonical(parameters.effective(values, notebook)))


def _canonical(value: Any) -> str:
    """A typed text form in which mappings do not depend on the order of their keys."""
    if isinstance(value, dict):
        return "{" + ",".join(sorted(f"{_canonical(k)}:{_canonical(v)}" for k, v in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_canonical(item) for item in value) + "]"
    return repr(value)
