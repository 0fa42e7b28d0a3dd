"""What a Ray worker does with one cell: the same as the local engine's threads do, but one try a call."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib import recorded
from chimera_lib.errors import KernelDied, NotebookFailed
from chimera_lib.runs.attempt import Attempts, TimedOut
from chimera_lib.runs.cells import Job
from chimera_lib.runs.events import DONE, FAILED, TIMED_OUT
from chimera_lib.runs.identity import PACKAGE, PARTS, library_digest
from chimera_lib.runs.making import make
from chimera_lib.runs.notebooks import project_root
from chimera_lib.runs.parcels import Parcels, is_shared
from chimera_lib.runs.stores import is_remote, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.runs.stores import Keeper


def work(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Execute one cell.

    Args:
        request: the job and where its run goes, as `chimera_lib.runs.ray_engine` sends it.
        tell: called with label, kind, number, total and detail of what happens.

    Returns:
        ``status`` and, by that, ``why``, ``seconds``, ``packed`` (the files, where the output is not seen here).

    Raises:
        ChildProcessError: the cell was killed, so that Ray may try it again.
    """
    job = Job(**{**request["job"], "words": tuple(request["job"]["words"])})
    began = time.monotonic()
    differs = difference(job.library, request["facts"], part_of(job))
    if differs:
        return {"status": FAILED, "why": f"{job.label}: {differs}"}
    tell(job.label, "started", 0, 0, request["node"])
    store = _store(request)
    if not request["force"] and store.find(*job.key):  # an earlier try got so far, but its worker could not say so
        return {"status": DONE, "seconds": time.monotonic() - began}

    def on_cell(number: int, total: int) -> None:
        tell(job.label, "cell", number, total, "")

    answer: dict[str, Any] = {}
    try:
        surroundings = request["surroundings"]
        make(job, store, _root(request), Attempts(), on_cell, surroundings=surroundings, force=request["force"])
        answer |= {"status": DONE}
    except KernelDied as error:
        tell(job.label, "died", 0, 0, str(error))
        raise ChildProcessError(str(error)) from error
    except TimedOut as error:
        answer |= {"status": TIMED_OUT, "why": str(error)}
    except NotebookFailed as error:
        answer |= {"status": FAILED, "why": str(error)}
    except OSError as error:
        if error.errno is None:
            raise
        answer |= {
            "status": FAILED,
            "errno": error.errno,
            "why": [error.strerror, f"{request['node']}:{error.filename}"],
        }
    packed = store.packed if isinstance(store, Parcels) else None
    return {**answer, "seconds": time.monotonic() - began, "packed": packed}


def part_of(job: Job) -> tuple[str | None, bool]:
    """The part whose files a job computes with, and whether its verbs count; see `library_digest`."""
    if job.words:
        return job.words[0], True
    declared = (job.content or {}).get("metadata", {}).get("chimera", {}).get("part")
    return (declared if declared in PARTS else None), False


def facts() -> dict[str, str]:
    """Which version of the project this machine has, and where."""
    return {
        "version": importlib.metadata.version("chimera-lib"),
        "revision": recorded.revision(PACKAGE),
        "python": platform.python_version(),
        "folder": str(PACKAGE),
    }


def difference(library: str, wanted: dict[str, str], part: tuple[str | None, bool]) -> str:
    """In what way this node's project is not that of the machine that sends the cells; empty where it is the same."""
    if library_digest(PACKAGE, part[0], commands=part[1]) == library:
        return ""
    here = facts()
    return (
        f"node {platform.node()} has chimera_lib {_named(here)} in {here['folder']}, which is not what the sweep was "
        f"started with: {_named(wanted)} in {wanted['folder']}; install the same there, or put it on a shared disk"
    )


def _named(one: dict[str, str]) -> str:
    return f"{one['version']} ({one['revision'] or 'no git revision'}, Python {one['python']})"


def _store(request: dict[str, Any]) -> Keeper:
    """Where this node puts runs: the output itself where it sees it, otherwise a parcel."""
    if is_remote(request["output"]) or is_shared(*request["probe"]):
        return open_store(request["output"])
    return Parcels()


def _root(request: dict[str, Any]) -> Path:
    """The project's folder here: the same as the sender's, or that of the installed package, or just the home."""
    root = Path(request["root"])
    if root.is_dir():
        return root
    checkout = PACKAGE.parent
    return project_root(checkout) if (checkout / "notebooks" / "profiles").is_dir() else Path.home()
