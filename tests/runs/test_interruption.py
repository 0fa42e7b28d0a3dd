"""kill -9 at random moments: nothing half-written is taken for a run, nothing survives, and a rerun completes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from chimera_lib.runs.notebooks import check_executed
from chimera_lib.runs.store import Store

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

SLOW_CELL = "import time\nfrom pathlib import Path\nPath('figure.png').write_bytes(bytes(200_000))\ntime.sleep(0.15)"


@pytest.fixture
def pair(project):
    """A project with a quick notebook and one of several slower cells."""
    record = "from chimera_lib.runs import record\nrecord(seed=seed)"
    project.write("images/01-first", record, parameters="seed: int = 0")
    project.write("images/02-second", *[SLOW_CELL] * 5, record, parameters="seed: int = 0")
    return project


def finished(project):
    """The finished runs by notebook and seed, each proved to be whole."""
    found = {}
    for run in Store(project.runs).runs():
        check_executed(run.executed)
        assert run.notebook == "images/01-first" or (run.folder / "figure.png").stat().st_size == 200_000
        found[run.notebook, run.metrics["seed"]["value"]] = run.folder.stat().st_ino
    return found


def await_no_processes(project, seconds=10.0):
    """Wait until no process of the project is left; fails, and says which, when some stay."""
    deadline = time.monotonic() + seconds
    while left := project.processes():
        assert time.monotonic() < deadline, f"these outlived their parent: {left}"
        time.sleep(0.05)


def kernels_of(project):
    """Process numbers of the project's kernels and of what runs them."""
    return [pid for pid, line in project.processes().items() if "runs.kernel" in line or "runs.execute" in line]


def command(seed):
    return ["run", "images/01", "images/02", "-p", "seed", str(seed)]


@pytest.mark.slow
def test_kill_9_at_random_moments(pair):
    moments = random.Random(20)
    began = time.monotonic()
    assert pair.chimera(*command(0)).returncode == 0
    usual = time.monotonic() - began
    killed_parents = killed_kernels = reused = 0
    for seed in range(1, 21):
        process = pair.start(*command(seed))
        time.sleep(moments.uniform(0.3, (0.95 if seed % 2 else 0.5) * usual))
        if seed % 2:
            process.kill()
            process.wait()
            await_no_processes(pair)
            killed_parents += 1
        else:
            while not (kernels := kernels_of(pair)) and process.poll() is None:
                time.sleep(0.02)
            for pid in kernels[-1:]:
                os.kill(pid, signal.SIGKILL)
                killed_kernels += 1
            assert process.wait(timeout=120) == 0, "a killed kernel costs its own cell only, which is tried again"
        whole = finished(pair)
        rerun = pair.chimera(*command(seed))
        assert rerun.returncode == 0, rerun.stderr
        after = finished(pair)
        assert whole.items() <= after.items(), "what was whole is kept as it is"
        assert {("images/01-first", seed), ("images/02-second", seed)} <= after.keys()
        mine = [name for name, of in whole if of == seed]
        assert rerun.stderr.count("reused") == len(mine)
        reused += len(mine)
        assert [path.name for path in (pair.runs / ".partial").iterdir()] == ["store.lock"], "what was left is swept"
        assert list(pair.temporary.iterdir()) == [], "nor does a kernel's key stay behind elsewhere"
    assert killed_parents == 10
    assert killed_kernels >= 8
    assert reused >= 10, "the moments were such that some first notebooks had finished"


def test_ctrl_c_exits_130_and_leaves_nothing(pair):
    # A shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that.
    heed = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", heed, sys.executable, "-m", "chimera_lib.cli", *command(1)],
        cwd=pair.root,
        env=pair.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("images/02-second · cell 3"):
            break
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 130
    assert said.count("error:") == 1
    assert "interrupted" in said
    await_no_processes(pair)
    assert set(finished(pair)) == {("images/01-first", 1)}
    assert [path.name for path in (pair.runs / ".partial").iterdir()] == ["store.lock"]


def test_a_kernel_that_holds_the_interpreter_dies_with_its_starter(project):
    # The regular expression never ends and never lets another Python thread look whether the parent lives.
    project.write("images/01-first", "import re\nre.match(r'(a+)+b', 'a' * 60)")
    process = project.start("run", "images/01")
    deadline = time.monotonic() + 60
    while not any("runs.kernel" in line for line in project.processes().values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2.5)
    process.kill()
    process.wait()
    await_no_processes(project)


def test_a_kernel_that_always_dies_is_given_up(project):
    project.write("images/01-first", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    done = project.chimera("run", "images/01")
    assert done.returncode == 2
    assert done.stderr.count("retry") == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "images/01-first" in errors[0]
    assert "killed or crashed" in errors[0]
    assert finished(project) == {}
