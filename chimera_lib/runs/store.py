"""The store of runs: ``<root>/<profile>/<notebook>/<id>/`` holds finished runs and nothing else.

A run is made in ``<root>/.partial/<something>/run`` and moved into place whole, by one rename. The maker holds a lock
on ``<root>/.partial/<something>/lock`` for as long as it lives, so that whatever is found there unlocked is left over
from a killed process and may be swept away, while a run in progress beside this one may not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chimera_lib.runs.record import METRICS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

EXECUTED = "executed.ipynb"
PARAMETERS = "parameters.yml"
ENVIRONMENT = "environment.json"
LOG = "log.txt"
"""What a command printed, where a notebook has `EXECUTED`."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        notebook: the notebook's name, ``PART/NN-title``, or part and verb of a command.
        profile: the profile (or sweep) it was run under.
        id: hash of source, parameters, library and assets.
        folder: where its files lie.
        metrics: name -> ``{"value", "n", "ci"}``.
        environment: the content of ``environment.json``.
    """

    notebook: str
    profile: str
    id: str
    folder: Path
    metrics: dict[str, Any]
    environment: dict[str, Any]

    @property
    def executed(self) -> Path:
        """The executed notebook."""
        return self.folder / EXECUTED


class Store:
    """Finished runs below one folder.

    Args:
        root: the folder; made when the first run is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._partials = self.root / ".partial"

    def folder(self, profile: str, notebook: str, run_id: str) -> Path:
        """Where a run lies, or would lie."""
        return self.root / profile / notebook / run_id

    def find(self, profile: str, notebook: str, run_id: str) -> Run | None:
        """The finished run with this id, or ``None`` where there is none or a file of it is missing or cut short."""
        folder = self.folder(profile, notebook, run_id)
        try:
            environment = json.loads((folder / ENVIRONMENT).read_text())
            metrics = json.loads((folder / METRICS).read_text())
            sizes: dict[str, int] = environment["files"]
            whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        if not whole or not complete(sizes):
            return None
        return Run(notebook, profile, run_id, folder, metrics, environment)

    def runs(self) -> list[Run]:
        """All finished runs, the oldest first."""
        found = []
        for path in self.root.glob(f"*/*/*/*/{ENVIRONMENT}"):
            profile, part, title, run_id, _ = path.relative_to(self.root).parts
            run = None if profile.startswith(".") else self.find(profile, f"{part}/{title}", run_id)
            if run is not None:
                found.append(run)
        return sorted(found, key=lambda run: (run.environment.get("date", ""), run.notebook, run.id))

    @contextlib.contextmanager
    def partial(self) -> Iterator[Path]:
        """A locked scratch folder for one run, gone when the block ends; ``run/`` in it is what `put` moves away."""
        with self._exclusive():
            scratch = Path(tempfile.mkdtemp(dir=self._partials))
            lock = _lock(scratch / "lock")
        try:
            (scratch / "run").mkdir()
            yield scratch
        finally:
            _remove(scratch)
            if lock is not None:
                lock.close()

    def put(self, scratch: Path, profile: str, notebook: str, run_id: str, *, replace: bool = False) -> Run:
        """Move ``scratch/run`` into place in one step, and return it as a finished run.

        A whole run of the same id that another process finished meanwhile stays, unless ``replace`` is set.
        """
        run, target = scratch / "run", self.folder(profile, notebook, run_id)
        write_sizes(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusive():
            if target.exists() and (replace or self.find(profile, notebook, run_id) is None):
                target.replace(scratch / "replaced")
            if not target.exists():
                run.replace(target)
        stored = self.find(profile, notebook, run_id)
        if stored is None:
            raise RuntimeError(f"{target} was changed while it was put in place")
        return stored

    def keep_failed(self, path: Path, name: str) -> str:
        """Move what is left of a failed run to ``.failed/name``, where it is no run; returns where that is."""
        kept = self.root / ".failed" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, kept)
        return str(kept)

    def write(self, name: str, content: str) -> str:
        """Write a file of this name below the root, whole or not at all; returns where that is."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(path)
        return str(path)

    def check(self) -> None:
        """Make the root. Raises OSError where that cannot be, or nothing can be written in it."""
        self._partials.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._partials):
            pass

    def sweep(self) -> list[Path]:
        """Remove scratch folders whose maker is dead; those of live processes stay. Returns what was removed."""
        swept: list[Path] = []
        if not self._partials.is_dir():
            return swept
        with self._exclusive():
            for scratch in [path for path in self._partials.iterdir() if path.is_dir()]:
                lock = _lock(scratch / "lock")
                if lock is not None:
                    _remove(scratch)
                    lock.close()
                    swept.append(scratch)
        return swept

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other processes from making, sweeping or placing a run, for a moment."""
        self._partials.mkdir(parents=True, exist_ok=True)
        with (self._partials / "store.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def complete(names: Collection[str]) -> bool:
    """Whether these are the files of a whole run: parameters, metrics, and what was executed."""
    return PARAMETERS in names and METRICS in names and (EXECUTED in names or LOG in names)


def write_sizes(run: Path) -> dict[str, int]:
    """Write the size of every file of a run into its `ENVIRONMENT`, which makes it whole; returns them, without it."""
    facts = json.loads((run / ENVIRONMENT).read_text())
    files = (path for path in run.rglob("*") if path.is_file() and path != run / ENVIRONMENT)
    facts["files"] = {path.relative_to(run).as_posix(): path.stat().st_size for path in files}
    (run / ENVIRONMENT).write_text(json.dumps(facts, indent=2) + "\n")
    sizes: dict[str, int] = facts["files"]
    return sizes


def _lock(path: Path) -> IO[str] | None:
    """An open, locked file, or ``None`` when a live process holds the lock; the system frees it when that one dies."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _remove(folder: Path) -> None:
    """Remove a folder; what a dying kernel still writes into it is left to the next sweep."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
