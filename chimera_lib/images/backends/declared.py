"""Backends that are one Python file each: what such a file declares, read without running it.

The file is the runner itself, loaded by path in a worker process, and may import a framework that this process
must not load. So its declarations are literals at the top level, taken from the syntax tree:

``NAME``         as people type it (text; needed)
``LIBRARY``      what the variants of one library have in common (text; needed)
``INSTALL``      how to get the library (text; needed)
``FAMILY``       ``gemm`` (our executor on its products, the default) or ``framework`` (its own forward)
``ENVIRONMENT``  variables of its process
``VARIANTS``     suffix -> options of ``start``; ``""`` is the plain one. Two keys are the registry's instead of
                 ``start``'s: ``environment`` (more variables) and ``interpreter`` (another Python)

and one function ``start(network, options, executor)``, as ``worker`` describes it.
"""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chimera_lib.errors import ChimeraError

ADDED = Path(__file__).parent / "added"
VARIABLE = "CHIMERA_BACKENDS"
FAMILIES = ("gemm", "framework")
KINDS = {"NAME": str, "LIBRARY": str, "INSTALL": str, "FAMILY": str, "ENVIRONMENT": dict, "VARIANTS": dict}
NEEDED = ("NAME", "LIBRARY", "INSTALL")


@dataclass(frozen=True)
class Declaration:
    """What a file declares; ``variants`` maps each suffix to the options of that variant."""

    path: Path
    name: str
    library: str
    install: str
    family: str
    environment: dict[str, str]
    variants: dict[str, dict[str, Any]]


def files() -> list[Path]:
    """The package's own files by name, then those that CHIMERA_BACKENDS lists, a path separator between them."""
    listed = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return [*sorted(ADDED.glob("[!_]*.py")), *listed]


def read(path: Path) -> Declaration:
    """Read the declarations of the file at ``path``; raises ChimeraError naming what is wrong, and where."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ChimeraError(f"backend file {path}: {error.strerror}; expected a Python file") from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ChimeraError(f"backend file {path}{f', line {line}' if line else ''}: no Python ({error})") from None
    said = {name: _literal(path, node) for node in tree.body for name in _assigned(node) if name in KINDS}
    for name in NEEDED:
        if not said.get(name):
            raise ChimeraError(f'backend file {path} declares no {name}; expected a line such as {name} = "..."')
    for name, value in said.items():
        if not isinstance(value, KINDS[name]):
            wanted = "a text" if KINDS[name] is str else "a dictionary"
            raise ChimeraError(f"backend file {path}: {name} is {value!r}; expected {wanted}")
    if not any(isinstance(node, ast.FunctionDef) and node.name == "start" for node in tree.body):
        raise ChimeraError(f"backend file {path} has no function start(network, options, executor); write one")
    family = said.get("FAMILY", "gemm")
    if family not in FAMILIES:
        raise ChimeraError(f"backend file {path}: FAMILY is {family!r}; expected {' or '.join(FAMILIES)}")
    variants = said.get("VARIANTS", {"": {}})
    if not all(isinstance(suffix, str) and isinstance(options, dict) for suffix, options in variants.items()):
        raise ChimeraError(f"backend file {path}: VARIANTS is {variants!r}; expected suffix -> options")
    return Declaration(
        path.resolve(),
        said["NAME"],
        said["LIBRARY"],
        said["INSTALL"],
        family,
        said.get("ENVIRONMENT", {}),
        variants,
    )


def _assigned(node: ast.stmt) -> list[str]:
    """The names that a statement ``NAME = value`` or ``NAME: type = value`` assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _literal(path: Path, node: ast.stmt) -> Any:
    """The value of an assignment; raises ChimeraError unless it is written out."""
    assert isinstance(node, (ast.Assign, ast.AnnAssign))
    try:
        return ast.literal_eval(node.value) if node.value is not None else None
    except ValueError:
        raise ChimeraError(
            f"backend file {path}, line {node.lineno}: not a literal; expected text and numbers written out, "
            "as the file is not run to read them"
        ) from None
