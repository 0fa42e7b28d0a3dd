"""Read a sweep file: what to run, over which values, and how."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.runs.annotations import plain
from chimera_lib.runs.cells import Cell, CommandCell, Job, prepare
from chimera_lib.runs.parameters import profiles
from chimera_lib.runs.words import OUTPUT, places

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

KEYS = (
    *("name", "notebook", "profile", "command", "assets", "grid", "zip", "cells"),
    *("engine", "address", "jobs", "cpus_per_run", "gpus_per_run", "retries", "timeout", "output"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEFAULT_RETRIES = 2


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked.

    Attributes:
        name: the folder of its runs and of its summary, below the output.
        path: the file.
        rows: the values of each cell, in order.
        notebook: the notebook's name; empty for a command.
        profile: where the values come from that ``rows`` do not give (notebooks).
        command: the words of a part's command; empty for a notebook.
        assets: names of the data sets and weights that the command reads.
        engine, address, jobs, cpus_per_run, gpus_per_run, retries: as in `chimera_lib.runs.engine.Plan`; ``jobs`` 0
            leaves it to the engine.
        timeout: seconds that a cell may take; ``None`` waits for ever.
        output: the folder of runs, or its address; ``None`` is ``runs`` in the project.
    """

    name: str
    path: Path
    rows: tuple[dict[str, Any], ...]
    notebook: str = ""
    profile: str = "quick"
    command: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    engine: str = "local"
    address: str | None = None
    jobs: int = 0
    cpus_per_run: int | None = None
    gpus_per_run: float = 0
    retries: int = _DEFAULT_RETRIES
    timeout: float | None = None
    output: str | None = None

    def jobs_of(self, root: Path) -> list[Job]:
        """The cells, looked up and checked as `chimera_lib.runs.cells.prepare` does.

        Raises:
            ChimeraError: a notebook, parameter, value or asset is not there or does not fit; two cells are the same.
        """
        if self.name in profiles(root):
            raise ChimeraError(
                f"{self.path}: name {self.name!r} is that of a profile, whose runs the book shows; choose another"
            )
        jobs: list[Job] = []
        seen: dict[tuple[str, str, str], int] = {}
        for number, row in enumerate(self.rows, start=1):
            job = prepare(self._cell(row), root)
            if job.key in seen:
                raise ChimeraError(
                    f"{self.path}: cells {seen[job.key]} and {number} are the same ({job.label}); leave one of them out"
                )
            seen[job.key] = number
            jobs.append(job)
        return jobs

    def _cell(self, row: dict[str, Any]) -> Cell | CommandCell:
        if self.command:
            return CommandCell(self.command, row, self.name, self.assets, self.timeout)
        return Cell(self.notebook, self.profile, row, self.name, self.timeout)


def read(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        ChimeraError: it is not there or not YAML, has a key that is not known, lacks one, or a value is not what it
            should be; the message names the value, what was expected and the way out.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ChimeraError(f"{path} cannot be read: {error}; expected a sweep file in YAML") from error
    except yaml.YAMLError as error:
        raise ChimeraError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ChimeraError(f"{path} is not a sweep: expected `name: ...`, `notebook:` or `command:`, and `grid:`")
    for key in content:
        if key not in KEYS:
            raise UnknownName(f"key of {path}", str(key), KEYS)
    check = _Checks(path, content)
    name = check.text("name", required=True)
    if not _NAME.fullmatch(name):
        raise check.wrong("name", "letters, digits, dots, dashes, as in gate-seeds: a folder is called so")
    rows = _rows(check)
    return Sweep(
        name=name,
        path=path,
        rows=tuple(rows),
        **_what(check, rows[0]),
        engine=check.text("engine") or "local",
        address=check.text("address") or None,
        jobs=check.number("jobs", 0, whole=True, least=1),
        cpus_per_run=check.number("cpus_per_run", None, whole=True, least=1),
        gpus_per_run=check.number("gpus_per_run", 0, whole=False, least=0),
        retries=check.number("retries", _DEFAULT_RETRIES, whole=True, least=0),
        timeout=check.number("timeout", None, whole=False, least=0.001),
        output=check.text("output") or None,
    )


class _Checks:
    """The content of a file, and complaints about it that name the file."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content

    def wrong(self, key: str, expected: str) -> ChimeraError:
        return ChimeraError(f"{self.path}: {key} is {self.content.get(key)!r}; expected {expected}")

    def text(self, key: str, *, required: bool = False) -> str:
        value = self.content.get(key, "" if not required else None)
        if not isinstance(value, str) or (key in self.content and not value):
            raise self.wrong(key, "a text")
        return value

    def number(self, key: str, default: Any, *, whole: bool, least: float) -> Any:
        value = self.content.get(key, default)
        if key not in self.content:
            return value
        kinds = (int,) if whole else (int, float)
        if type(value) not in kinds or not least <= value < float("inf"):
            raise self.wrong(key, f"a {'whole ' if whole else ''}number, {least:g} or more")
        return value


def _what(check: _Checks, row: dict[str, Any]) -> dict[str, Any]:
    """The notebook with its profile, or the command with its assets, checked against the names that have values."""
    given = check.content
    if ("notebook" in given) == ("command" in given):
        raise ChimeraError(
            f"{check.path}: expected either `notebook: PART/NN` or `command: [PART, VERB, ...]`, "
            f"not {'both' if 'notebook' in given else 'neither'}"
        )
    if "notebook" in given:
        if "assets" in given:
            raise check.wrong("assets", "no such key with a notebook, which names its own; leave it out")
        return {"notebook": check.text("notebook"), "profile": check.text("profile") or "quick"}
    if "profile" in given:
        raise check.wrong("profile", "no such key with a command, which has no profiles; leave it out")
    words, assets = given["command"], given.get("assets", [])
    if not isinstance(words, list) or not words or not all(type(word) in (str, int, float) for word in words):
        raise check.wrong("command", "a list of words, as in [prion, run, --seed, '{seed}', --output-dir, '{output}']")
    if not isinstance(assets, list) or not all(isinstance(name, str) for name in assets):
        raise check.wrong("assets", "a list of names that `chimera data list` knows")
    words = [str(word) for word in words]
    found = places(words)
    if OUTPUT not in found:
        raise check.wrong("command", "{output} among its words, such as --output-dir {output}: each cell has a folder")
    for name in sorted(found - {OUTPUT} - set(row)):
        raise UnknownName(f"name in braces in the command of {check.path}", name, [*row, OUTPUT])
    for name in sorted(set(row) - found):
        raise ChimeraError(
            f"{check.path}: {name} has values but no place in the command; write {{{name}}} there, or leave it out"
        )
    return {"command": tuple(words), "assets": tuple(assets)}


def _rows(check: _Checks) -> list[dict[str, Any]]:
    """The values of each cell: every combination of the grid's values, the zip's rows and the listed cells."""
    factors = [[{name: value} for value in values] for name, values in _lists(check, "grid").items()]
    together = _lists(check, "zip")
    if together:
        lengths = {name: len(values) for name, values in together.items()}
        if len(set(lengths.values())) > 1:
            raise ChimeraError(f"{check.path}: zip walks through lists together, but their lengths are {lengths}")
        factors.append([dict(zip(together, row, strict=True)) for row in zip(*together.values(), strict=True)])
    if "cells" in check.content:
        factors.append(_listed(check))
    if not factors:
        raise ChimeraError(f"{check.path} has no values to go through; expected grid:, zip: or cells:, as in seed: [0]")
    names = [name for factor in factors for name in factor[0]]
    for name in names:
        if names.count(name) > 1:
            raise ChimeraError(f"{check.path}: {name} has values in two of grid, zip and cells; leave one of them out")
        if not isinstance(name, str) or name == OUTPUT:
            raise ChimeraError(f"{check.path}: {name!r} cannot be the name of values; choose another")
    return [_joined(combination) for combination in itertools.product(*factors)]


def _lists(check: _Checks, key: str) -> dict[str, list[Any]]:
    given = check.content.get(key, {})
    if not isinstance(given, dict) or (key in check.content and not given):
        raise check.wrong(key, "names with lists of values, as in seed: [0, 1, 2]")
    for name, values in given.items():
        if not isinstance(values, list) or not values:
            raise ChimeraError(f"{check.path}: {key} {name} is {values!r}; expected a list of values, as in [0, 1, 2]")
        for value in values:
            _fits(check, name, value)
    return given


def _listed(check: _Checks) -> list[dict[str, Any]]:
    rows = check.content["cells"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise check.wrong("cells", "a list of names with values, as in - {seed: 0, steps: 10}")
    for number, row in enumerate(rows, start=1):
        if set(row) != set(rows[0]):
            raise ChimeraError(
                f"{check.path}: cell {number} has values for {', '.join(map(str, row))}; "
                f"expected the names of the first: {', '.join(map(str, rows[0]))}"
            )
        for name, value in row.items():
            _fits(check, name, value)
    return rows


def _fits(check: _Checks, name: Any, value: Any) -> None:
    if not plain(value) or ("command" in check.content and (value is None or isinstance(value, dict))):
        raise ChimeraError(
            f"{check.path}: {name} has the value {value!r}; expected a number, a text, true, false, or a list of these"
        )


def _joined(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for row in rows for name, value in row.items()}
