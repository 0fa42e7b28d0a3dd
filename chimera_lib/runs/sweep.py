"""Run the cells of a sweep file, and say what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError
from chimera_lib.runs.engine import Plan, execute
from chimera_lib.runs.events import FAILED, TIMED_OUT
from chimera_lib.runs.stores import open_store
from chimera_lib.runs.summary import FILES, Summary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chimera_lib.runs.events import Event
    from chimera_lib.runs.stores import Keeper
    from chimera_lib.runs.sweep_file import Sweep


def run(sweep: Sweep, root: Path, *, force: bool = False, report: Callable[[Event], object] = print) -> Summary:
    """Run every cell that is not done, write the summary as it goes, and return it.

    Cells that fail are in the summary; see `complain`.

    Args:
        sweep: the file, read; its engine, jobs and the like as they are to be.
        root: the project's folder.
        force: execute even what is done, and replace it.
        report: told of every event, in the thread of the caller.

    Raises:
        ChimeraError: a cell cannot be run at all, the output cannot be written to, or the cluster does not answer.
    """
    plan = plan_of(sweep, force=force)
    plan.check()
    jobs = sweep.jobs_of(root)
    store = store_of(sweep, root)
    store.check()
    summary = Summary(sweep.name, store, jobs, sweep.rows)
    summary.write()
    try:
        execute(jobs, store, root, plan, report, summary.settle)
    finally:  # after Ctrl-C too
        summary.write()
    return summary


def plan_of(sweep: Sweep, *, force: bool = False) -> Plan:
    """How the engine is to run the cells; one at a time here, as many as fit on a cluster, unless the file says it."""
    return Plan(
        engine=sweep.engine,
        jobs=sweep.jobs or (1 if sweep.engine == "local" else 0),
        address=sweep.address,
        cpus_per_run=sweep.cpus_per_run,
        gpus_per_run=sweep.gpus_per_run,
        retries=sweep.retries,
        force=force,
    )


def store_of(sweep: Sweep, root: Path) -> Keeper:
    """Where the runs go; a relative folder of the file is one in the project."""
    if sweep.output is None:
        return open_store(root / "runs")
    return open_store(sweep.output if "://" in sweep.output else root / sweep.output)


def preview(sweep: Sweep, root: Path, *, force: bool = False) -> list[str]:
    """Lines that name every cell with its id and whether it is done already; nothing is run or written."""
    plan_of(sweep).check()
    jobs, store = sweep.jobs_of(root), store_of(sweep, root)
    done = [not force and store.find(*job.key) is not None for job in jobs]
    lines = [
        f"{job.id}  {'done ' if is_done else 'to do'}  {job.label}" for job, is_done in zip(jobs, done, strict=True)
    ]
    return [*lines, f"{len(jobs)} cells, {sum(done)} done, {len(jobs) - sum(done)} to do, in {store.root}/{sweep.name}"]


def complain(sweep: Sweep, summary: Summary, folder: str) -> None:
    """Raise ChimeraError, in one line, where cells have failed."""
    counts = summary.counts()
    bad = {status: counts[status] for status in (FAILED, TIMED_OUT) if status in counts}
    if bad:
        what = " and ".join(f"{number} {status}" for status, number in bad.items())
        raise ChimeraError(
            f"{what} of {len(sweep.rows)} cells; why is in {folder}/{FILES[1]}; "
            "the same command tries these again and reuses the others"
        )
