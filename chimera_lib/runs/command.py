"""One command of a part, executed in processes of its own: ``python -m chimera_lib.runs.command``.

It is started, told and abandoned as `chimera_lib.runs.execute` is, and gives the same answers. The command itself is
another process of the same group, so that this one can be told its end even when it dies of a signal.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from chimera_lib.runs.execute import Task, receive
from chimera_lib.runs.record import METRICS
from chimera_lib.runs.store import ENVIRONMENT, LOG, PARAMETERS
from chimera_lib.runs.words import OUTPUT, fill

# The command line, in a process that cannot outlive the one that waits for it.
_LAUNCH = (
    "import runpy; from chimera_lib.runs.kernel import die_with_parent; die_with_parent(); "
    "runpy.run_module('chimera_lib.cli', run_name='__main__', alter_sys=True)"
)


def main() -> None:
    """Read a task, execute it, and answer."""
    task = receive()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        answer = execute(task)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        answer = {"full": str(error.filename or task.scratch)}
    answers.write(json.dumps(answer) + "\n")


def execute(task: Task) -> dict[str, Any]:
    """Execute a command in ``scratch/run`` and leave the files of a run there; returns the answer to the starter."""
    import time

    import yaml

    from chimera_lib.runs.environment import capture

    run = Path(task.scratch) / "run"
    began = time.monotonic()
    with (run / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *fill(task.words, {OUTPUT: str(run)})],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=run,
        )
    facts = capture(Path(task.root))  # while the command gets going
    status = process.wait()
    if status < 0:
        return {"died": f"its process was ended by {signal.Signals(-status).name}"}
    if status > 0:
        return {"failed": f"exit status {status}: {_last_line(run / LOG)}"}
    (run / PARAMETERS).write_text(yaml.safe_dump(task.effective, sort_keys=False))
    if not (run / METRICS).exists():
        (run / METRICS).write_text("{}\n")
    elif not _are_metrics(run / METRICS):
        return {"failed": f"it wrote a {METRICS} that chimera_lib.runs.record did not; have it use another name"}
    facts["seconds"] = round(time.monotonic() - began, 2)
    (run / ENVIRONMENT).write_text(json.dumps(facts, indent=2) + "\n")
    return {"done": facts}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def _are_metrics(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return False
    return isinstance(content, dict) and all(isinstance(one, dict) and "value" in one for one in content.values())


if __name__ == "__main__":
    main()
