"""Execute many notebooks: reuse the runs that are there, make the others, a few at a time."""

from __future__ import annotations

import json
import queue
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, KernelDied, NotebookFailed, UnknownName
from chimera_lib.runs import notebooks, parameters
from chimera_lib.runs.attempt import Attempts
from chimera_lib.runs.execute import Task
from chimera_lib.runs.identity import run_id
from chimera_lib.runs.store import EXECUTED, Run, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

ENGINES = ("local",)


@dataclass(frozen=True)
class Cell:
    """One cell of a grid of runs: a notebook with parameters.

    Attributes:
        notebook: its name, or a prefix of it that fits no other.
        profile: the profile its values come from, and the folder its run goes to.
        parameters: values that override the profile's.
    """

    notebook: str
    profile: str = "quick"
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that happened to one cell; as text it is one line for a reader.

    Attributes:
        notebook: the notebook's name.
        kind: ``reused``, ``started``, ``cell``, ``retry``, ``finished`` or ``failed``.
        number: the code cell that begins, counted from 1 (kind ``cell``).
        total: how many code cells there are (kind ``cell``).
        seconds: since the cell was started.
        detail: where the run lies, or why it is tried again.
    """

    notebook: str
    kind: str
    number: int = 0
    total: int = 0
    seconds: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        what = f"cell {self.number} of {self.total}" if self.kind == "cell" else self.kind
        after = f" · {self.seconds:.0f} s" if self.seconds >= 1 or self.kind == "finished" else ""
        return f"{self.notebook} · {what}{after}{f' · {self.detail}' if self.detail else ''}"


@dataclass(frozen=True)
class _Job:
    """A cell with everything looked up and checked."""

    notebook: notebooks.Notebook
    profile: str
    values: dict[str, Any]
    id: str


def run_cells(
    cells: Sequence[Cell],
    *,
    engine: str = "local",
    jobs: int = 1,
    root: Path | None = None,
    output: Path | None = None,
    force: bool = False,
    retries: int = 2,
    report: Callable[[Event], object] = print,
) -> list[Run]:
    """Execute each cell, or reuse the finished run that has the same id.

    All cells are checked before the first one is executed. One that fails does not stop the others.

    Args:
        cells: what to run.
        engine: ``local`` is a pool of processes on this machine, with one kernel each.
        jobs: how many run at a time.
        root: the project's folder; default: found from the current folder upwards.
        output: the folder of runs; default ``runs`` in the project.
        force: execute even what is there, and replace it.
        retries: how often a cell is tried again after its kernel was killed.
        report: told of every event, in the thread of the caller.

    Returns:
        The finished runs, in the order of ``cells``.

    Raises:
        ChimeraError: a cell asks for what is not there (`UnknownName`, `AssetMissing`), or cells failed
            (`NotebookFailed`: the message has each one's reason).
        OSError: with ``ENOSPC``, when the disk is full.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if jobs < 1:
        raise ChimeraError(f"jobs is {jobs}; at least one notebook must run at a time")
    root = root or notebooks.project_root()
    store = Store(output or root / "runs")
    prepared = [prepare(cell, root) for cell in cells]
    store.sweep()
    return _Pool(store, root, force, retries).run(prepared, jobs, report)


def prepare(cell: Cell, root: Path) -> _Job:
    """Look up a cell's notebook, profile, parameters and assets, and give it its id.

    Raises:
        UnknownName: the notebook, the profile or a parameter is not there.
        AssetMissing: the notebook needs data that were not fetched yet.
        ChimeraError: a value does not fit its parameter.
    """
    from chimera_lib import assets

    notebook = notebooks.find(cell.notebook, root)
    given = parameters.profile_values(cell.profile, notebook, root)
    values = parameters.changed({**given, **parameters.check(cell.parameters, notebook)}, notebook)
    return _Job(notebook, cell.profile, values, run_id(notebook, values, assets.checksums(notebook.assets)))


class _Pool:
    """The local engine: threads that wait, each for one process."""

    def __init__(self, store: Store, root: Path, force: bool, retries: int) -> None:
        self._store, self._root, self._force, self._retries = store, root, force, retries
        self._attempts = Attempts()
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def run(self, jobs: Sequence[_Job], width: int, report: Callable[[Event], object]) -> list[Run]:
        with ThreadPoolExecutor(width) as pool:
            # Cells that ask for the same run share one execution.
            futures: dict[tuple[str, str, str], Future[Run]] = {}
            for job in jobs:
                key = (job.profile, job.notebook.name, job.id)
                if key not in futures:
                    futures[key] = pool.submit(self._one, job)
                    futures[key].add_done_callback(lambda _: self._events.put(None))
            try:
                for _ in futures:
                    while (event := self._events.get()) is not None:
                        report(event)
            except BaseException:  # Ctrl-C, or a report that fails: end the processes before the pool waits for them
                pool.shutdown(wait=False, cancel_futures=True)
                self._attempts.stop()
                raise
        _raise_failures(list(futures.values()))
        return [futures[job.profile, job.notebook.name, job.id].result() for job in jobs]

    def _one(self, job: _Job) -> Run:
        """Reuse or make one run; in a thread of the pool."""
        name, began = job.notebook.name, time.monotonic()
        if not self._force and (found := self._store.find(job.profile, name, job.id)):
            self._events.put(Event(name, "reused", detail=str(found.folder)))
            return found
        for attempt in range(self._retries + 1):
            try:
                self._events.put(Event(name, "started"))
                run = self._make(job, began)
            except KernelDied as error:
                if attempt == self._retries or self._attempts.stopped:
                    tries = f"{error}, {attempt + 1} times in a row; if memory is short, use smaller parameters"
                    raise KernelDied(tries) from error
                self._events.put(Event(name, "retry", seconds=time.monotonic() - began, detail=str(error)))
            except NotebookFailed:
                self._events.put(Event(name, "failed", seconds=time.monotonic() - began))  # the error says why
                raise
            else:
                seconds = time.monotonic() - began
                self._events.put(Event(name, "finished", seconds=seconds, detail=str(run.folder)))
                return run
        raise AssertionError("the loop returns or raises")

    def _make(self, job: _Job, began: float) -> Run:
        name = job.notebook.name
        with self._store.partial() as scratch:
            # The notebook as it was when its id was taken: the file may be edited meanwhile.
            source = scratch / "source.ipynb"
            source.write_text(json.dumps(job.notebook.content))
            task = Task(
                notebook=name,
                source=str(source),
                scratch=str(scratch),
                root=str(self._root),
                parameters=job.values,
                effective=parameters.effective(job.values, job.notebook),
            )

            def on_cell(number: int, total: int) -> None:
                self._events.put(Event(name, "cell", number, total, time.monotonic() - began))

            try:
                self._attempts.make(task, on_cell)
                notebooks.check_executed(scratch / "run" / EXECUTED, name)
            except NotebookFailed as error:
                raise self._keep_failed(job, scratch / "run" / EXECUTED, error) from error
            return self._store.put(scratch, job.profile, name, job.id, replace=self._force)

    def _keep_failed(self, job: _Job, executed: Path, error: NotebookFailed) -> NotebookFailed:
        """Put a failed notebook where it can be looked at but is no run, and say so."""
        if not executed.exists():
            return error
        kept = self._store.root / ".failed" / job.profile / f"{job.notebook.name}.ipynb"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(executed, kept)
        return type(error)(f"{error}; see {kept}")


def _raise_failures(futures: Sequence[Future[Run]]) -> None:
    """Raise what went wrong: alone as it is, several as one error with all reasons; a full disk comes first."""
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in errors:
        if not isinstance(error, NotebookFailed) or len(errors) == 1:
            raise error
    if errors:
        raise NotebookFailed(f"{len(errors)} notebooks failed: {'; '.join(str(error) for error in errors)}")
