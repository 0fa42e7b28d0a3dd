"""The Ray engine: each cell is a Ray task, in which the same processes run as on the local engine.

A task that loses its worker or its node is begun again by Ray (``max_retries``), and so is one whose cell was killed.
Cells go out as plain data and their runs come back through the output where the nodes see it: a folder that all of them
share, or an address that fsspec knows. Otherwise they travel packed, through Ray itself (`chimera_lib.runs.parcels`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import KernelDied, NotebookFailed
from chimera_lib.runs import ray_cluster, ray_worker
from chimera_lib.runs.attempt import TimedOut
from chimera_lib.runs.events import DONE, FAILED, TIMED_OUT, Event, Outcome
from chimera_lib.runs.local import given_up
from chimera_lib.runs.parcels import probe, unpack
from chimera_lib.runs.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.engine import Plan
    from chimera_lib.runs.store import Run
    from chimera_lib.runs.stores import Keeper

_LOOK = 0.2  # seconds between looks at what the nodes tell
_VISIBLE_WITHIN = 60.0  # seconds; a client of NFS may know no sooner of a file that another has written


def run_on_ray(
    jobs: Sequence[Job], store: Keeper, root: Path, plan: Plan, tell: Callable[[Event | Outcome], object]
) -> None:
    """Run each job on a Ray cluster, telling of everything that happens, in this thread, until all have ended.

    Raises:
        ChimeraError: Ray is not installed, the cluster does not answer, or a node has another version of the project.
    """
    with contextlib.ExitStack() as stack:
        stack.callback(_sweep, store)
        cluster = stack.enter_context(ray_cluster.join(plan))
        request: dict[str, Any] = {
            "root": str(root),
            "output": str(store.root),
            "probe": stack.enter_context(probe(store.root)) if isinstance(store, Store) else None,
            "force": plan.force,
            "facts": ray_worker.facts(),
            "surroundings": plan.surroundings(),
        }
        cluster.check_nodes(jobs[0])
        _Crew(cluster, store, plan, tell, request).run(jobs)


class _Crew:
    """The tasks that are under way, and what is known of each."""

    def __init__(
        self,
        cluster: ray_cluster.Cluster,
        store: Keeper,
        plan: Plan,
        tell: Callable[[Event | Outcome], object],
        request: dict[str, Any],
    ) -> None:
        self._ray, self._store, self._plan, self._tell, self._request = cluster.ray, store, plan, tell, request
        self._width = plan.jobs or 10_000  # so many may wait for a place; Ray itself gives places to as many as fit
        self._board = cluster.board()
        self._task = cluster.task()
        self._jobs: dict[Any, Job] = {}  # by what Ray promises
        self._known: dict[str, dict[str, Any]] = {}  # by label: tries, node, when it began, whether it is known why

    def run(self, jobs: Sequence[Job]) -> None:
        """Keep as many under way as may be, and hand over what comes back."""
        waiting = list(reversed(jobs))
        try:
            while waiting or self._jobs:
                while waiting and len(self._jobs) < self._width:
                    job = waiting.pop()
                    promise = self._task.remote({**self._request, "job": dataclasses.asdict(job)}, self._board)
                    self._jobs[promise] = job
                ready, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=_LOOK)
                self._listen()
                for promise in ready:
                    self._tell(self._outcome(self._jobs.pop(promise), promise))
        finally:
            self._end(list(self._jobs))  # after Ctrl-C, or a report that fails
            self._ray.kill(self._board)

    def _end(self, promises: Sequence[Any]) -> None:
        """Kill the workers of tasks, which ends their cells, and have Ray not try these again."""
        for promise in promises:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(promise, force=True)

    def _listen(self) -> None:
        """Tell what the nodes have told since last time: (label, kind, number, total, detail)."""
        for label, kind, number, total, detail in self._ray.get(self._board.take.remote()):
            known = self._known.setdefault(label, {"tries": 0, "node": "", "began": time.monotonic(), "said": True})
            seconds = time.monotonic() - known["began"]
            if kind == "started":
                if not known["said"]:
                    self._tell(Event(label, "retry", seconds=seconds, detail="its worker or its node was killed"))
                known |= {"tries": known["tries"] + 1, "node": detail, "said": False}
                self._tell(Event(label, "started"))
                if known["tries"] > self._plan.retries + 1:  # Ray counts no death for want of memory, and never ends
                    self._end([promise for promise, job in self._jobs.items() if job.label == label])
            elif kind == "died":
                known["said"] = True
                if known["tries"] <= self._plan.retries:
                    self._tell(Event(label, "retry", seconds=seconds, detail=detail))
            else:
                self._tell(Event(label, kind, number, total, seconds))

    def _outcome(self, job: Job, promise: Any) -> Outcome:
        """What became of a job, from what its task has answered."""
        known = self._known.get(job.label, {"tries": 0, "node": "", "began": time.monotonic()})
        tries, seconds = known["tries"], time.monotonic() - known["began"]
        run: Run | None = None
        error: Exception | None = None
        status = FAILED
        exceptions = self._ray.exceptions
        try:
            answer = self._ray.get(promise)
            if tries == 1:
                seconds = answer.get("seconds", seconds)
            status = answer["status"]
            if status == DONE:
                run = self._receive(job, answer.get("packed"))
            else:
                error = self._reason(job, answer)
        except exceptions.RayTaskError as raised:
            cause = raised.cause if isinstance(raised.cause, Exception) else raised
            error = given_up(cause, tries) if isinstance(cause, ChildProcessError) else cause
        except exceptions.RayError as lost:
            memory = " for want of memory" if isinstance(lost, exceptions.OutOfMemoryError) else ""
            error = given_up(KernelDied(f"{job.label}: its worker or its node was killed{memory}"), tries)
        except (NotebookFailed, OSError) as raised_here:
            error = raised_here
            status = FAILED
        return Outcome(job, status, tries, seconds, known["node"], run, error)

    def _receive(self, job: Job, packed: bytes | None) -> Run:
        """The finished run: unpacked where it was sent, otherwise found where the node has put it."""
        if packed is not None:
            with self._store.partial() as scratch:
                unpack(packed, scratch / "run")
                return self._store.put(scratch, job.profile, job.name, job.id, replace=self._plan.force)
        limit = time.monotonic() + _VISIBLE_WITHIN
        while (run := self._store.find(*job.key)) is None:
            if time.monotonic() > limit:
                raise NotebookFailed(f"{job.label}: its node says that it is done, but it is not in {self._store.root}")
            time.sleep(1.0)
        return run

    def _reason(self, job: Job, answer: dict[str, Any]) -> Exception:
        if answer.get("errno"):
            return OSError(answer["errno"], *answer["why"])
        why = answer["why"]
        if answer.get("packed") is not None:
            name = f"{job.kept}{'.log' if job.words else '.ipynb'}"
            with self._store.partial() as scratch:
                (scratch / "left").write_bytes(answer["packed"])
                kept = self._store.keep_failed(scratch / "left", name)
            why = why.replace(f".failed/{name}", kept)
        return (TimedOut if answer["status"] == TIMED_OUT else NotebookFailed)(why)


def _sweep(store: Keeper) -> None:
    """Remove what workers have left that were killed; the last of them may be dying just now."""
    for _ in range(20):
        store.sweep()
        if not isinstance(store, Store) or not any(path.is_dir() for path in (store.root / ".partial").glob("*")):
            return
        time.sleep(0.25)
