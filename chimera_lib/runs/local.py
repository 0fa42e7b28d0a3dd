"""The local engine: a pool of processes on this machine, one cell each."""

from __future__ import annotations

import platform
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from chimera_lib.errors import KernelDied, NotebookFailed
from chimera_lib.runs.attempt import Attempts, TimedOut
from chimera_lib.runs.cards import shares
from chimera_lib.runs.events import DONE, FAILED, REUSED, TIMED_OUT, Event, Outcome
from chimera_lib.runs.making import make

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.engine import Plan
    from chimera_lib.runs.store import Run
    from chimera_lib.runs.stores import Keeper


class Pool:
    """Threads that wait, each for one process."""

    def __init__(self, store: Keeper, root: Path, plan: Plan) -> None:
        self._store, self._root, self._plan = store, root, plan
        self._attempts = Attempts()
        self._slots: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for slot in shares(plan.gpus_per_run, plan.jobs):
            self._slots.put(slot)
        self._events: queue.SimpleQueue[Event | Outcome | None] = queue.SimpleQueue()

    def run(self, jobs: Sequence[Job], tell: Callable[[Event | Outcome], object]) -> None:
        """Run each job, telling of everything that happens, in this thread; returns when all have come to an end."""
        with ThreadPoolExecutor(self._plan.jobs) as pool:
            futures: list[Future[None]] = []
            for job in jobs:
                futures.append(pool.submit(self._one, job))
                futures[-1].add_done_callback(lambda _: self._events.put(None))
            try:
                for _ in futures:
                    while (event := self._events.get()) is not None:
                        tell(event)
            except BaseException:  # Ctrl-C, or a report that fails: end the processes before the pool waits for them
                pool.shutdown(wait=False, cancel_futures=True)
                self._attempts.stop()
                raise
        for future in futures:
            future.result()

    def _one(self, job: Job) -> None:
        """Reuse or make one run; in a thread of the pool."""
        began = time.monotonic()
        tries = 0

        def ended(status: str, run: Run | None = None, error: Exception | None = None) -> None:
            seconds = time.monotonic() - began
            self._events.put(Outcome(job, status, tries, seconds, platform.node() if tries else "", run, error))

        def on_cell(number: int, total: int) -> None:
            self._events.put(Event(job.label, "cell", number, total, time.monotonic() - began))

        if not self._plan.force and (found := self._store.find(*job.key)):
            return ended(REUSED, found)
        while True:
            tries += 1
            self._events.put(Event(job.label, "started"))
            cards = self._slots.get()
            given = {**self._plan.surroundings(), **cards}
            try:
                run = make(
                    job,
                    self._store,
                    self._root,
                    self._attempts,
                    on_cell,
                    surroundings=given,
                    force=self._plan.force,
                )
            except KernelDied as error:
                if tries > self._plan.retries or self._attempts.stopped:
                    return ended(FAILED, error=given_up(error, tries))
                self._events.put(Event(job.label, "retry", seconds=time.monotonic() - began, detail=str(error)))
            except TimedOut as error:
                return ended(TIMED_OUT, error=error)
            except (NotebookFailed, OSError) as error:
                return ended(FAILED, error=error)
            else:
                return ended(DONE, run)
            finally:
                self._slots.put(cards)


def given_up(error: Exception, tries: int) -> KernelDied:
    """What to say of a cell that was killed as often as it may be tried."""
    return KernelDied(f"{error}, {tries} times in a row; if memory is short, use smaller parameters")
