"""What can be run: a notebook with parameters, or a part's command with values; looked up, checked and given an id."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.runs import notebooks, parameters
from chimera_lib.runs.identity import PACKAGE, PARTS, command_id, library_digest, run_id
from chimera_lib.runs.words import fill, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One cell of a grid of runs: a notebook with parameters.

    Attributes:
        notebook: its name, or a prefix of it that fits no other.
        profile: the profile its values come from, and the folder its run goes to.
        parameters: values that override the profile's.
        sweep: the sweep it belongs to, whose name is then the folder that its run goes to.
        timeout: seconds after which it is killed, which is no reason to try it again; ``None`` waits for ever.
    """

    notebook: str
    profile: str = "quick"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    sweep: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class CommandCell:
    """One cell of a grid of runs: a part's ``chimera`` command.

    Attributes:
        words: the command without ``chimera``; ``{name}`` stands for a value, ``{output}`` for the run's own folder.
        values: name -> value; a list of values stands for several words.
        sweep: the sweep it belongs to, whose name is the folder that its run goes to.
        assets: names of the data sets and weights that it reads.
        timeout: seconds after which it is killed; ``None`` waits for ever.
    """

    words: Sequence[str]
    values: Mapping[str, Any]
    sweep: str
    assets: Sequence[str] = ()
    timeout: float | None = None


@dataclass(frozen=True)
class Job:
    """A cell with everything looked up and checked; plain data, which another machine can read.

    Attributes:
        name: the notebook, or part and verb; the folder of the run below the profile's or the sweep's.
        profile: the profile or the sweep.
        id: hash of what the results follow from.
        label: what a reader sees, different for each cell of a sweep.
        kept: where below ``.failed`` the notebook, or the log of the command, is kept when it fails; without suffix.
        library: checksum of the library's files that it computes with.
        values: the parameters that differ from the notebook's defaults, or the values of a command.
        effective: all parameters with their values.
        content: the notebook as it was when its id was taken; ``None`` for a command.
        words: the command's words, with ``{output}`` still in them; empty for a notebook.
        timeout: seconds after which it is killed.
    """

    name: str
    profile: str
    id: str
    label: str
    kept: str
    library: str
    values: dict[str, Any]
    effective: dict[str, Any]
    content: dict[str, Any] | None = None
    words: tuple[str, ...] = ()
    timeout: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What two cells share that ask for the same run."""
        return self.profile, self.name, self.id


def prepare(cell: Cell | CommandCell, root: Path) -> Job:
    """Look up a cell's notebook, profile, parameters and assets, and give it its id.

    Raises:
        UnknownName: the notebook, the profile or a parameter is not there.
        AssetMissing: data are needed that were not fetched yet.
        ChimeraError: a value does not fit its parameter, or a command is none of a part's.
    """
    return _command(cell) if isinstance(cell, CommandCell) else _notebook(cell, root)


def _notebook(cell: Cell, root: Path) -> Job:
    from chimera_lib import assets

    notebook = notebooks.find(cell.notebook, root)
    given = parameters.profile_values(cell.profile, notebook, root)
    values = parameters.changed({**given, **parameters.check(cell.parameters, notebook)}, notebook)
    identity = run_id(notebook, values, assets.checksums(notebook.assets))
    folder = cell.sweep or cell.profile
    suffix = f"-{identity}" if cell.sweep else ""
    return Job(
        name=notebook.name,
        profile=folder,
        id=identity,
        label=" ".join([notebook.name, *shown(cell.parameters)]) if cell.sweep else notebook.name,
        kept=f"{folder}/{notebook.name}{suffix}",
        library=library_digest(PACKAGE, notebook.part),
        values=values,
        effective=parameters.effective(values, notebook),
        content=notebook.content,
        timeout=cell.timeout,
    )


def _command(cell: CommandCell) -> Job:
    from chimera_lib import assets

    if len(cell.words) < 2 or cell.words[0] not in PARTS or not cell.words[1][:1].isalpha():
        raise ChimeraError(
            f"command {' '.join(cell.words)!r} is none of a part's; "
            f"expected the words behind chimera, as in [prion, run, ...] (parts: {', '.join(sorted(PARTS))})"
        )
    words = fill(cell.words, cell.values)
    name = f"{cell.words[0]}/{cell.words[1]}"
    identity = command_id(words, cell.values, assets.checksums(cell.assets))
    return Job(
        name=name,
        profile=cell.sweep,
        id=identity,
        label=" ".join([name, *shown(cell.values)]),
        kept=f"{cell.sweep}/{name}-{identity}",
        library=library_digest(PACKAGE, cell.words[0], commands=True),
        values=dict(cell.values),
        effective={**cell.values, "command": ["chimera", *words]},
        words=tuple(words),
        timeout=cell.timeout,
    )
