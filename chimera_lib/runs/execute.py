"""One notebook, executed by papermill in a process of its own: ``python -m chimera_lib.runs.execute``.

The process is started by `chimera_lib.runs.attempt`, which writes one line of JSON (a `Task`) to its standard input and
then holds that pipe open: its end means that the starter is dead, and this process and its kernel die as well. It
answers with lines of JSON on its standard output: ``{"cell": 3, "total": 12}`` as cells begin, and one of ``done``,
``failed``, ``died`` or ``full`` at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chimera_lib.runs.record import METRICS
from chimera_lib.runs.store import ENVIRONMENT, EXECUTED, PARAMETERS

KERNEL = "chimera"
_START_TIMEOUT = 300  # seconds; a kernel on a busy machine may take a minute


@dataclass(frozen=True)
class Task:
    """What to execute.

    Attributes:
        notebook: its name, ``PART/NN-title``.
        source: the notebook's file.
        scratch: the scratch folder; the run is made in ``scratch/run``.
        root: the project's folder.
        parameters: the values to inject, which differ from the notebook's defaults.
        effective: all parameters with their values, for ``parameters.yml``.
        words: the words of a command, which `chimera_lib.runs.command` executes; empty for a notebook.
    """

    notebook: str
    source: str
    scratch: str
    root: str
    parameters: dict[str, Any]
    effective: dict[str, Any]
    words: tuple[str, ...] = ()


def receive() -> Task:
    """Read a task from standard input, whose end will from then on end this process and what it has started."""
    task = Task(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_die_when_abandoned, daemon=True).start()
    return task


def main() -> None:
    """Read a task, execute it, and answer."""
    task = receive()
    # Standard output is for answers alone: whatever else prints there, a kernel's C library too, goes to the log.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # jsonschema would import this to check international addresses, of which notebooks have none: a second or more.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    try:
        answer: dict[str, Any] = {"done": execute(task, answers)}
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        answer = {"full": str(error.filename or task.scratch)}
    except Exception as error:  # noqa: BLE001  (whatever it was, the starter is told, and the log has the rest)
        traceback.print_exc()
        answer = _reason(error)
    answers.write(json.dumps(answer) + "\n")


def execute(task: Task, answers: IO[str]) -> dict[str, Any]:
    """Execute a task and leave the four files of a run in ``scratch/run``; returns facts about it."""
    import yaml
    from papermill.execute import execute_notebook
    from traitlets.config import Config

    from chimera_lib.runs.environment import capture

    scratch, run = Path(task.scratch), Path(task.scratch) / "run"
    _prepare(task, scratch)
    (run / PARAMETERS).write_text(yaml.safe_dump(task.effective, sort_keys=False))
    os.chdir(run)
    # Relative paths, since papermill takes braces in a path for its own templates.
    executed = execute_notebook(
        "../prepared.ipynb",
        EXECUTED,
        kernel_name=KERNEL,
        engine_name=_register_engine(answers),
        progress_bar=False,
        request_save_on_cell_execute=False,
        start_timeout=_START_TIMEOUT,
        # With its key in it, the file would else stay behind in /tmp when this process is killed.
        config=Config({"KernelManager": {"connection_file": str(scratch / "connection.json")}}),
    )
    if not (run / METRICS).exists():
        (run / METRICS).write_text("{}\n")
    facts = {**capture(Path(task.root)), "seconds": round(executed.metadata.papermill["duration"], 2)}
    (run / ENVIRONMENT).write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def _prepare(task: Task, scratch: Path) -> None:
    """Write the notebook with its parameters injected, and the description of the kernel that will run it."""
    import nbformat
    from papermill.parameterize import parameterize_notebook

    notebook = nbformat.read(task.source, as_version=4)
    notebook.metadata["papermill"] = {}
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    if task.parameters:
        notebook = parameterize_notebook(notebook, task.parameters)
        for cell in notebook.cells:
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.metadata["tags"].append("hide-input")
    nbformat.write(notebook, scratch / "prepared.ipynb")
    folder = scratch / "jupyter" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "chimera_lib.runs.kernel", "-f", "{connection_file}"]
    command.append("--HistoryManager.enabled=False")  # kernels side by side would wait for one history file
    (folder / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}),
    )


def _register_engine(answers: IO[str]) -> str:
    """papermill's own engine, made to tell which cell it is at."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Told(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            start = nb_man.cell_start
            code = [cell for cell in nb_man.nb.cells if cell.cell_type == "code"]

            def told(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                if cell.cell_type == "code":
                    position = next(i for i, one in enumerate(code, start=1) if one is cell)
                    answers.write(json.dumps({"cell": position, "total": len(code)}) + "\n")
                start(cell, cell_index, **more)

            nb_man.cell_start = told
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("told", Told)
    return "told"


def _reason(error: Exception) -> dict[str, Any]:
    """An answer that says why a notebook did not get to its end."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        claim = " (a claim that did not hold)" if error.ename == "AssertionError" else ""
        return {"failed": f"cell {error.exec_count} raised {error.ename}: {_one_line(error.evalue)}{claim}"}
    if isinstance(error, DeadKernelError) or "Kernel died" in str(error):
        return {"died": "its kernel was killed or crashed"}
    return {"failed": f"{type(error).__name__}: {_one_line(str(error))}"}


def _one_line(message: str, limit: int = 300) -> str:
    plain = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _die_when_abandoned() -> None:
    """Wait for the end of standard input, then end, with the group of processes and all that was started in others."""
    os.read(0, 1)
    try:
        end_descendants(os.getpid())
    finally:
        if os.getpid() == os.getpgrp():  # it was given a group of its own by the starter
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


def end_descendants(process: int) -> None:
    """Kill the children of a process, their children and so on: first all are found, then all are killed."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()


def describe(task: Task) -> bytes:
    """A task as the line that `main` reads."""
    return json.dumps(dataclasses.asdict(task)).encode() + b"\n"


if __name__ == "__main__":
    main()
