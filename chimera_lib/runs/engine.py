"""Execute many cells: reuse the runs that are there, make the others, a few at a time, here or on a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.runs import notebooks
from chimera_lib.runs.cells import Cell, CommandCell, Job, prepare
from chimera_lib.runs.events import REUSED, Event, Outcome, raise_failures
from chimera_lib.runs.local import Pool
from chimera_lib.runs.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chimera_lib.runs.store import Run
    from chimera_lib.runs.stores import Keeper

__all__ = ["ENGINES", "Cell", "CommandCell", "Event", "Outcome", "Plan", "execute", "prepare", "run_cells"]

ENGINES = ("local", "ray")
_MOST_GPUS = 1024


@dataclass(frozen=True)
class Plan:
    """Where and how cells are run.

    Attributes:
        engine: ``local``, a pool of processes on this machine, or ``ray``, tasks on a Ray cluster.
        jobs: how many run at a time; 0 is one (local) or as many as the cluster holds (ray).
        address: the Ray cluster, ``HOST:PORT`` or ``auto``; ``None`` starts a Ray of this machine and ends it after.
        cpus_per_run: processors that a cell asks of Ray for, and threads that its libraries use on either engine;
            ``None`` asks for one processor, and leaves the threads as they are where the command was started.
        gpus_per_run: graphics cards of a cell, which sees no others; a fraction shares one.
        retries: how often a cell is tried again after its process, its kernel, its worker or its node was killed.
        force: execute even what is there, and replace it.
    """

    engine: str = "local"
    jobs: int = 1
    address: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float = 0
    retries: int = 2
    force: bool = False

    def check(self) -> None:
        """Raise UnknownName for the engine, ChimeraError for a number that cannot be."""
        if self.engine not in ENGINES:
            raise UnknownName("engine", self.engine, ENGINES)
        if self.jobs < 0 or (self.jobs == 0 and self.engine == "local"):
            raise ChimeraError(f"jobs is {self.jobs}; at least one notebook must run at a time")
        if self.retries < 0:
            raise ChimeraError(f"retries is {self.retries}; expected 0 or more")
        if self.cpus_per_run is not None and self.cpus_per_run < 1:
            raise ChimeraError(f"cpus_per_run is {self.cpus_per_run}; expected 1 or more")
        whole = self.gpus_per_run == int(self.gpus_per_run)
        if not 0 <= self.gpus_per_run <= _MOST_GPUS or not (whole or self.gpus_per_run < 1):
            raise ChimeraError(f"gpus_per_run is {self.gpus_per_run:g}; expected a whole number, or a part of one card")
        if self.address is not None and self.engine != "ray":
            raise ChimeraError(f"address {self.address!r} is of a Ray cluster; say --engine ray too, or leave it out")

    def surroundings(self) -> dict[str, str]:
        """Environment variables of every cell, the same on both engines."""
        threads = os.environ.get("OMP_NUM_THREADS", "") if self.cpus_per_run is None else str(self.cpus_per_run)
        return {"OMP_NUM_THREADS": threads}


def run_cells(
    cells: Sequence[Cell | CommandCell],
    *,
    engine: str = "local",
    jobs: int = 1,
    root: Path | None = None,
    output: Path | str | None = None,
    force: bool = False,
    retries: int = 2,
    address: str | None = None,
    gpus_per_run: float = 0,
    report: Callable[[Event], object] = print,
) -> list[Run]:
    """Execute each cell, or reuse the finished run that has the same id.

    All cells are checked before the first one is executed. One that fails does not stop the others.

    Args:
        cells: what to run.
        engine: ``local`` is a pool of processes on this machine, one cell each; ``ray`` spreads them over a cluster.
        jobs: how many run at a time (ray: 0 for as many as the cluster holds).
        root: the project's folder; default: found from the current folder upwards.
        output: the folder of runs, or an address such as ``s3://bucket/runs``; default ``runs`` in the project.
        force: execute even what is there, and replace it.
        retries: how often a cell is tried again after its kernel, its worker or its node was killed.
        address: the Ray cluster; ``None`` starts a Ray of this machine for as long as it is needed.
        gpus_per_run: graphics cards of a cell, which sees no others; a fraction shares one.
        report: told of every event, in the thread of the caller.

    Returns:
        The finished runs, in the order of ``cells``.

    Raises:
        ChimeraError: a cell asks for what is not there (`UnknownName`, `AssetMissing`), or cells failed
            (`NotebookFailed`: the message has each one's reason).
        OSError: with ``ENOSPC``, when the disk is full.
    """
    plan = Plan(engine, jobs, address=address, gpus_per_run=gpus_per_run, retries=retries, force=force)
    plan.check()
    root = root or notebooks.project_root()
    store = open_store(output or root / "runs")
    prepared = [prepare(cell, root) for cell in cells]
    outcomes = execute(prepared, store, root, plan, report)
    raise_failures([outcomes[key] for key in dict.fromkeys(job.key for job in prepared)])  # in the order asked for
    return [run for job in prepared if (run := outcomes[job.key].run) is not None]


def execute(
    jobs: Sequence[Job],
    store: Keeper,
    root: Path,
    plan: Plan,
    report: Callable[[Event], object],
    settled: Callable[[Outcome], object] = lambda _: None,
) -> dict[tuple[str, str, str], Outcome]:
    """Run prepared cells to their ends, whatever these are.

    Args:
        jobs: what to run; those of the same key share one execution.
        store: where the runs go.
        root: the project's folder.
        plan: where and how.
        report: told of every event, in the thread of the caller.
        settled: told of every cell that came to its end, in the thread of the caller.

    Returns:
        The outcome of each key.
    """
    plan.check()
    outcomes: dict[tuple[str, str, str], Outcome] = {}

    def tell(what: Event | Outcome) -> None:
        if isinstance(what, Outcome):
            outcomes[what.job.key] = what
            settled(what)
            what = what.event()
        report(what)

    store.sweep()
    unique = list({job.key: job for job in jobs}.values())
    if plan.engine == "local":
        Pool(store, root, plan).run(unique, tell)
        return outcomes
    missing = []
    for job in unique:  # what is there needs no cluster
        found = None if plan.force else store.find(*job.key)
        if found is None:
            missing.append(job)
        else:
            tell(Outcome(job, REUSED, run=found))
    if missing:
        from chimera_lib.runs.ray_engine import run_on_ray

        run_on_ray(missing, store, root, plan, tell)
    return outcomes
