"""One attempt to execute one notebook or command, seen from the process that started it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import KernelDied, NotebookFailed
from chimera_lib.runs.execute import Task, describe, end_descendants
from chimera_lib.runs.record import RUN_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCARCE = 1 << 20
"""Bytes of free disk below which a death is put down to the full disk; a kernel needs about that much to start."""


class TimedOut(NotebookFailed):
    """A run that took longer than it may; it was killed, and another try would take as long."""


class Attempts:
    """The attempts in progress, so that an interruption can end all of them at once."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Kill what runs and let nothing start any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def make(
        self,
        task: Task,
        on_cell: Callable[[int, int], None],
        timeout: float | None = None,
        surroundings: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Execute a task in a process group of its own, to the end.

        Args:
            task: what to execute.
            on_cell: called with (number, total) as each code cell begins, from this thread.
            timeout: seconds after which its processes are killed; ``None`` waits for ever.
            surroundings: environment variables beside those that are inherited; an empty one is taken away.

        Returns:
            Facts about the run; its files are in ``scratch/run``.

        Raises:
            NotebookFailed: a cell raised an error, or the command ended with an error.
            TimedOut: it was still running after ``timeout`` seconds.
            KernelDied: the kernel or the process around it was killed; it may be worth another attempt.
            OSError: with ``ENOSPC``, when the disk is full.
        """
        log = Path(task.scratch) / "log"
        with log.open("ab") as errors:
            process = self._start(task, errors.fileno(), _environment(task, surroundings or {}))
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill(process)

        clock = threading.Timer(timeout or 0, end)
        try:
            if timeout is not None:
                clock.start()
            answer = _follow(process, task, on_cell)
        finally:
            clock.cancel()
            _kill(process)
            with self._lock:
                self._running.discard(process)
        if late.is_set() and "done" not in answer:
            raise TimedOut(f"{task.notebook}: killed, since it ran for more than {timeout:g} s (its timeout)")
        return _judge(answer, process.returncode, task, log)

    def _start(self, task: Task, log: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        kind = "command" if task.words else "execute"
        command = [sys.executable, "-m", f"chimera_lib.runs.{kind}"]
        with self._lock:
            if self._stopped:
                raise KernelDied(f"{task.notebook} was not started, since the work was interrupted")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=task.root,
                start_new_session=True,  # Ctrl-C reaches the starter alone, which then ends everything in order
            )
            self._running.add(process)
        return process


def _environment(task: Task, added: Mapping[str, str]) -> dict[str, str]:
    """The surroundings of a run: its own folder, and none of the user's Jupyter and IPython settings."""
    scratch = Path(task.scratch)
    surroundings = {
        **os.environ,
        **added,
        RUN_DIR: str(scratch / "run"),
        "JUPYTER_PATH": str(scratch / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "runtime"),
        "IPYTHONDIR": str(scratch / "ipython"),
        "PYTHONHASHSEED": "0",  # the order of sets of strings is part of "same seed, same numbers"
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    return {name: value for name, value in surroundings.items() if value or name not in added}


def _follow(process: subprocess.Popen[bytes], task: Task, on_cell: Callable[[int, int], None]) -> dict[str, Any]:
    """Hand over the task, listen until the process closes its end, and return its last answer (empty if none)."""
    assert process.stdin is not None
    assert process.stdout is not None
    answer: dict[str, Any] = {}
    with process.stdin, process.stdout:
        with contextlib.suppress(BrokenPipeError):  # it died at once; the missing answer tells so
            process.stdin.write(describe(task))
            process.stdin.flush()
        for line in process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:  # cut off in the middle by a kill
                break
            if "cell" in answer:
                on_cell(answer["cell"], answer["total"])
                answer = {}
        _wait(process)
    return answer


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process, then end what it leaves behind in its group, while the group's number is still its own."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):  # another thread has killed it and taken note of its end
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            if process.returncode is None:
                _signal_group(process)
    process.wait()


def _judge(answer: dict[str, Any], status: int, task: Task, log: Path) -> dict[str, Any]:
    """Return the facts of a finished run, or raise what stopped it."""
    if "done" in answer:
        facts: dict[str, Any] = answer["done"]
        return facts
    if "failed" in answer and os.strerror(errno.ENOSPC) not in answer["failed"]:
        raise NotebookFailed(f"{task.notebook}: {answer['failed']}")
    if "full" in answer or "failed" in answer or shutil.disk_usage(task.scratch).free < _SCARCE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), answer.get("full", task.scratch))
    if "died" in answer:
        raise KernelDied(f"{task.notebook}: {answer['died']}")
    if status < 0:
        raise KernelDied(f"{task.notebook}: its process was ended by {signal.Signals(-status).name}")
    lines = log.read_text(errors="replace").strip().splitlines()
    raise NotebookFailed(f"{task.notebook}: could not be executed: {lines[-1] if lines else f'exit status {status}'}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process, its group, and what it has started in other groups (a kernel has one of its own)."""
    if process.poll() is None:
        end_descendants(process.pid)
        _signal_group(process)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
