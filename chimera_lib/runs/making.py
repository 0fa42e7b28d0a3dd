"""One try to make one run, in a store's scratch folder: the same on this machine and on a node of a cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chimera_lib.errors import NotebookFailed
from chimera_lib.runs import notebooks
from chimera_lib.runs.execute import Task
from chimera_lib.runs.store import EXECUTED, LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from chimera_lib.runs.attempt import Attempts
    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.store import Run
    from chimera_lib.runs.stores import Keeper


def make(
    job: Job,
    store: Keeper,
    root: Path,
    attempts: Attempts,
    on_cell: Callable[[int, int], None],
    *,
    surroundings: Mapping[str, str],
    force: bool = False,
) -> Run:
    """Make a run aside and put it in place.

    Args:
        job: what to run.
        store: where the run goes.
        root: the project's folder, in which its process starts and whose revision it notes.
        attempts: which starts the process, and can end it.
        on_cell: called with (number, total) as each code cell begins, from this thread.
        surroundings: environment variables of its process, as `Attempts.make` has them.
        force: replace what is there.

    Raises:
        NotebookFailed: as `Attempts.make`; the message says where the notebook or the log was kept.
        OSError: with ``ENOSPC``, when the disk is full.
    """
    with store.partial() as scratch:
        source = scratch / "source.ipynb"
        if job.content is not None:
            # The notebook as it was when its id was taken: the file may be edited meanwhile.
            source.write_text(json.dumps(job.content))
        task = Task(
            notebook=job.label,
            source=str(source),
            scratch=str(scratch),
            root=str(root),
            parameters=job.values,
            effective=job.effective,
            words=job.words,
        )
        left = scratch / "run" / (LOG if job.words else EXECUTED)
        try:
            attempts.make(task, on_cell, job.timeout, surroundings)
            if not job.words:
                notebooks.check_executed(left, job.label)
        except NotebookFailed as error:
            if not left.exists():
                raise
            # What is left can be looked at, but is no run.
            kept = store.keep_failed(left, f"{job.kept}{'.log' if job.words else '.ipynb'}")
            raise type(error)(f"{error}; see {kept}") from error
        return store.put(scratch, job.profile, job.name, job.id, replace=force)
