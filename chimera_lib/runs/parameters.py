"""The parameters a notebook declares, and whether the values given for them fit.

papermill reads the parameters cell with a regular expression that overlooks unions, ``tuple[int, ...]`` and every line
whose comment holds an equals sign, and it only warns of a parameter it does not know. Here the cell is parsed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.runs.annotations import MISSING, SCALARS, fit, literal, plain, read, read_typed
from chimera_lib.runs.notebooks import Notebook, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes:
        name: the variable assigned in the parameters cell.
        annotation: its annotation as written, or the type of its default where there is none, or ``None``.
        default: its default where that is a literal; otherwise a marker (see `has_default`).
    """

    name: str
    annotation: str | None
    default: Any

    @property
    def has_default(self) -> bool:
        """Whether the default is a literal, so that its value is known without running the notebook."""
        return self.default is not MISSING


def declared(notebook: Notebook) -> dict[str, Parameter]:
    """The parameters in the cell tagged ``parameters``, by name, in order; empty when there is no such cell.

    Raises:
        ChimeraError: the cell is not Python.
    """
    cell = notebook.tagged("parameters")
    if cell is None:
        return {}
    try:
        tree = ast.parse(text(cell))
    except SyntaxError as error:
        raise ChimeraError(f"the parameters cell of {notebook.name} is not Python: {error}") from error
    found: dict[str, Parameter] = {}
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = statement.annotation
            quoted = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
            written = (
                str(annotation.value) if isinstance(annotation, ast.Constant) and quoted else ast.unparse(annotation)
            )
            default = literal(statement.value)
            found[statement.target.id] = Parameter(statement.target.id, written, default)
        elif isinstance(statement, ast.Assign):
            default = literal(statement.value)
            known = type(default).__name__ if type(default) in SCALARS.values() else None
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = Parameter(target.id, known, default)
    return found


def profiles(root: Path) -> list[str]:
    """Names of the profiles in ``notebooks/profiles``."""
    return sorted(path.stem for path in (root / "notebooks" / "profiles").glob("*.yml"))


def profile_values(profile: str, notebook: Notebook, root: Path) -> dict[str, Any]:
    """The values that ``notebooks/profiles/<profile>.yml`` gives to a notebook's parameters, checked.

    Raises:
        UnknownName: there is no such profile, or it names a parameter that the notebook does not declare.
        ChimeraError: the file is not a mapping of notebooks to parameters, or a value does not fit its type.
    """
    import yaml

    known = profiles(root)
    if profile not in known:
        raise UnknownName("profile", profile, known)
    path = root / "notebooks" / "profiles" / f"{profile}.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ChimeraError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    values = content.get(notebook.name) or {} if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise ChimeraError(
            f"{path} must map notebook names to parameters and their values, as in images/x: {{seed: 1}}"
        )
    return check(values, notebook)


def check(values: Mapping[str, Any], notebook: Notebook) -> dict[str, Any]:
    """``values`` with each one fitted to its declared type (an ``int`` given to a ``float`` becomes one).

    Raises:
        UnknownName: a parameter that the notebook does not declare.
        ChimeraError: a value that does not fit the declared type.
    """
    known = _known(values, notebook)
    fitted: dict[str, Any] = {}
    for name, value in values.items():
        fits, fitted[name] = fit(value, read(known[name].annotation))
        if not fits or not plain(value):
            raise _misfit(notebook, known[name], value)
    return fitted


def parse(pairs: Mapping[str, str], notebook: Notebook) -> dict[str, Any]:
    """Values as typed on a command line, read as what the notebook declares (YAML for lists, mappings and the like).

    Raises:
        UnknownName: a parameter that the notebook does not declare.
        ChimeraError: a value that does not fit the declared type.
    """
    known = _known(pairs, notebook)
    values = {}
    for name, raw in pairs.items():
        value = read_typed(raw, read(known[name].annotation))
        if value is MISSING:
            raise _misfit(notebook, known[name], raw)
        values[name] = value
    return check(values, notebook)


def changed(values: Mapping[str, Any], notebook: Notebook) -> dict[str, Any]:
    """``values`` without those that say what the notebook's own defaults say, so that both make the same run."""
    known = declared(notebook)
    defaults = {name: list(p.default) if isinstance(p.default, tuple) else p.default for name, p in known.items()}
    # Compared as text, since 1, 1.0 and True are equal but not the same parameter.
    return {name: value for name, value in values.items() if repr(value) != repr(defaults[name])}


def effective(values: Mapping[str, Any], notebook: Notebook) -> dict[str, Any]:
    """All parameters with the values they will have: the notebook's literal defaults, overridden by ``values``."""
    defaults = {p.name: p.default for p in declared(notebook).values() if p.has_default}
    return {**defaults, **values}


def _known(values: Mapping[str, Any], notebook: Notebook) -> dict[str, Parameter]:
    known = declared(notebook)
    for name in values:
        if name not in known:
            raise UnknownName(f"parameter of {notebook.name}", name, known)
    return known


def _misfit(notebook: Notebook, parameter: Parameter, value: Any) -> ChimeraError:
    wanted = parameter.annotation or "a number, a text, or a list or mapping of them"
    return ChimeraError(f"parameter {parameter.name!r} of {notebook.name} is {wanted}, not {value!r}")
