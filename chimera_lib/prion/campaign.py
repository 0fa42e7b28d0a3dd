"""Many runs: some processes side by side, each finished run kept in a file, so that an interrupted campaign goes on."""

from __future__ import annotations

import collections
import json
import os
import queue
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import experiment, kept_runs
from chimera_lib.prion.analysis.runs import RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from chimera_lib.prion.experiment import Outcome, Setting


@dataclass(frozen=True)
class Failure:
    """A run that came to nothing: its setting, the name of the error and what it said."""

    setting: Setting
    error: str
    reason: str


def run(
    settings: Sequence[Setting],
    *,
    processes: int = 1,
    trail: tuple[int, ...] = experiment.TRAIL,
    rows: Path | None = None,
    progress: bool = True,
) -> tuple[list[Outcome], list[Failure]]:
    """Do every run that ``rows`` does not hold yet, measured along the way as ``trail`` asks.

    Args:
        settings: what to do, in any order; equal ones are done once.
        processes: how many run at a time, each on one thread; 1 uses this process.
        trail: numbers of steps after which each is measured as well; if there are any, also after its last.
        rows: a JSON Lines file that keeps finished runs; failed ones are tried again the next time.
        progress: show a bar.

    Returns:
        The outcomes in the order of ``settings``, and the failures.
    """
    wanted = list(dict.fromkeys(settings))
    done = {one.setting: one for one in (kept_runs.read(rows) if rows else ()) if kept_runs.followed(one, trail)}
    todo = [one for one in wanted if one not in done]
    failures = []
    with kept_runs.appended(rows) if rows else nullcontext() as kept:
        for setting, result in tqdm(
            _results(todo, processes, trail), total=len(todo), unit="run", disable=not progress
        ):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            done[setting] = result
            if kept is not None:
                kept.write(json.dumps(asdict(result)) + "\n")
                kept.flush()
    return [done[one] for one in wanted if one in done], failures


def results(outcomes: Sequence[Outcome]) -> list[RunResult]:
    """The runs as `chimera_lib.prion.analysis` sees those of a result folder."""
    return [
        RunResult(
            model=one.setting.model,
            run=one.setting.seed,
            precision=one.setting.precision,
            treatment=one.setting.treatment,
            optimizer=one.setting.optimizer,
            tuning=one.setting.tuning,
            parameters=float(one.parameters),
            learning_rate=one.setting.rate,
            seed=one.setting.seed,
            metrics={
                "baseline_log_perplexity": one.before.log_perplexity,
                "post_attack_log_perplexity": one.after.log_perplexity,
                "baseline_rank": one.before.effective_rank,
                "post_attack_rank": one.after.effective_rank,
                "rank_reduction_pct": one.rank_reduction,
            },
        )
        for one in outcomes
    ]


def failed(failures: Sequence[Failure]) -> ChimeraError:
    """An error that tells which runs failed, and why."""
    why = "; ".join(f"{one.setting.treatment}, seed {one.setting.seed}: {one.reason}" for one in failures)
    return ChimeraError(f"{len(failures)} runs failed ({why}); the same call tries them again")


def _results(
    settings: Sequence[Setting], processes: int, trail: tuple[int, ...]
) -> Iterator[tuple[Setting, Outcome | Failure]]:
    if processes == 1:
        for setting in settings:
            yield setting, _one(setting, trail)
        return
    work, done = _Work(settings, processes), queue.SimpleQueue[Any]()
    threads = [threading.Thread(target=_serve, args=(work, own, done, trail), daemon=True) for own in work.owned]
    for thread in threads:
        thread.start()
    try:
        for _ in settings:
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        work.clear()


class _Work:
    """What is still to be run, in groups that share a catalyst: those of one model and seed.

    A process takes a group and goes through it from its beginning. Once no group is left it takes over single runs
    from the end of the longest group of another process, though it may have to make that group's catalyst anew.

    Args:
        settings: what is to be run.
        processes: how many share it.

    Attributes:
        owned: for each process what it has taken, in order.
    """

    WORTH_SHARING = 3  # runs left in another's group

    def __init__(self, settings: Sequence[Setting], processes: int) -> None:
        groups: dict[tuple[str, str, int], collections.deque[Setting]] = {}
        for one in settings:
            groups.setdefault((one.model, one.checkpoint, one.seed), collections.deque()).append(one)
        self.owned: list[collections.deque[Setting]] = [collections.deque() for _ in range(processes)]
        self._waiting = collections.deque(groups.values())
        self._lock = threading.Lock()

    def take(self, own: collections.deque[Setting]) -> Setting | None:
        """The next run of the process that owns ``own``; None when there is nothing left for it."""
        with self._lock:
            if not own and self._waiting:
                own.extend(self._waiting.popleft())
            if own:
                return own.popleft()
            longest = max(self.owned, key=len)
            return longest.pop() if len(longest) >= self.WORTH_SHARING else None

    def clear(self) -> None:
        """Leave the rest undone."""
        with self._lock:
            self._waiting.clear()
            for group in self.owned:
                group.clear()


def _serve(work: _Work, own: collections.deque[Setting], done: queue.SimpleQueue[Any], trail: tuple[int, ...]) -> None:
    """Take runs as long as there are any, and do them in a process of this thread's own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    pool = _process()
    try:
        while (setting := work.take(own)) is not None:
            try:
                done.put((setting, pool.submit(_one, setting, trail).result()))
            except BrokenProcessPool:  # killed, most often for its memory: that costs one run
                done.put((setting, Failure(setting, "KernelDied", "its process was killed; is memory short?")))
                pool.shutdown()
                pool = _process()
    except Exception as error:  # noqa: BLE001  (whatever it was, the caller waits for an answer)
        done.put(error)
    finally:
        pool.shutdown()


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_alone)


def _alone() -> None:
    """Keep a process to one thread, since there are others beside it."""
    import torch

    torch.set_num_threads(1)


def _one(setting: Setting, trail: tuple[int, ...]) -> Outcome | Failure:
    try:
        return experiment.run(setting, trail=kept_runs.along(setting, trail))
    except MemoryError as error:
        return Failure(setting, type(error).__name__, str(error) or "out of memory")
    except ChimeraError as error:
        return Failure(setting, type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  (whatever it was, it costs this run and not the others)
        name = type(error).__name__
        return Failure(setting, name, f"{name}: {error}")
