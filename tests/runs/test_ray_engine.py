"""Sweeps on a real Ray cluster of two nodes on this machine, with workers, nodes and drivers killed midway."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from chimera_lib.runs.parcels import is_shared, pack, probe, unpack
from chimera_lib.runs.store import Store

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]

SETTINGS = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Cluster:
    """Two nodes; sockets of Ray allow a short path only."""

    def __init__(self, library: Path) -> None:
        self.folder = tempfile.mkdtemp(prefix="chr", dir="/tmp")
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ray_nodes.py"), self.folder],
            env={**os.environ, **SETTINGS, "PYTHONPATH": str(library), "OMP_NUM_THREADS": "1", "TMPDIR": self.folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            self.end()
        facts = json.loads(said)
        self.address: str = facts["address"]
        self.raylets: list[int] = facts["raylets"]

    def kill(self, number: int) -> None:
        """Kill a node: all its processes but the cells, which have to notice it themselves."""
        raylet = psutil.Process(self.raylets[number])
        for one in [raylet, *raylet.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                if "CHIMERA_RUN_DIR" not in one.environ():
                    one.kill()

    def end(self) -> None:
        """End both nodes and remove their files."""
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
        self.process.kill()
        self.process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _ray_starts():
    """Ray itself, without a line of ours: where that does not start, there is nothing to test."""
    folder = tempfile.mkdtemp(prefix="chr", dir="/tmp")
    script = "import ray, sys; ray.init(num_cpus=1, include_dashboard=False, _temp_dir=sys.argv[1]); ray.shutdown()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, folder], env={**os.environ, **SETTINGS}, capture_output=True, timeout=180
        )
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = -1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status:
        pytest.skip("Ray does not start on this machine")


@pytest.fixture(scope="module")
def cluster(library):
    started = Cluster(library)
    yield started
    started.end()


def worker_of(kernel: int) -> psutil.Process:
    """The Ray worker in which a cell runs: the parent of the process that started its kernel."""
    execute = psutil.Process(kernel).parent()
    assert execute is not None
    worker = execute.parent()
    assert worker is not None
    return worker


def wait_for(condition, seconds=120.0):
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)
    return found


def running_below(trouble, raylet, cells=(0, 1, 5, 6)):
    """A cell that sleeps its pause just now in a worker of a node, and that worker."""
    for n in cells:
        for kernel in trouble.begun(n):
            with contextlib.suppress(psutil.Error, AssertionError):
                worker = worker_of(kernel)
                if worker.ppid() == raylet and n not in trouble.ended():
                    return n, worker
    return None


def test_a_node_with_another_version_is_named_before_anything_runs(trouble, cluster):
    # The cluster runs the copy of the library; this driver another one.
    other = trouble.project.root / "other"
    shutil.copytree(trouble.project.library / "chimera_lib", other / "chimera_lib")
    (other / "chimera_lib" / "stats.py").write_text("CHANGED = True\n")
    words = ["sweep", str(trouble.file), "--engine", "ray", "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-m", "chimera_lib.cli", *words],
        cwd=trouble.project.root,
        env={**trouble.project.environment, **SETTINGS, "PYTHONPATH": str(other)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert f"in {trouble.project.library}/chimera_lib, which is not what the sweep was started with" in done.stderr
    assert str(other / "chimera_lib") in done.stderr
    assert done.stderr.count("error: ") == 1 and list(trouble.side.iterdir()) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_takes_its_ray_along_and_what_was_done_stays(trouble, end):
    trouble.file.write_text("name: trouble\nnotebook: images/01\ngrid: {n: [0, 4]}\nengine: ray\njobs: 1\n")
    heed = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", heed, sys.executable, "-m", "chimera_lib.cli", "sweep", str(trouble.file)],
        cwd=trouble.project.root,
        env={**trouble.project.environment, "RAY_USAGE_STATS_ENABLED": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    kernel = wait_for(lambda: trouble.begun(4), 240)[0]
    rays = [
        one for one in psutil.Process(driver.pid).children(recursive=True) if one.name() in ("raylet", "gcs_server")
    ]
    assert len(rays) == 2 and psutil.pid_exists(kernel)
    driver.send_signal(end)
    _, said = driver.communicate(timeout=90)
    assert driver.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL)
    wait_for(lambda: not trouble.project.processes(), 30)
    wait_for(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in rays), 30)
    assert trouble.ended() == [0]
    mine = [run for run in Store(trouble.project.runs).runs() if run.profile == "trouble"]
    assert [run.metrics["square"]["value"] for run in mine] == [0]
    states = [cell["status"] for cell in trouble.summary(trouble.project.runs)]
    assert states == ["done", "not done"]
    if end == signal.SIGINT:
        assert said.splitlines()[-1].startswith("error: interrupted;")
        assert [path.name for path in (trouble.project.runs / ".partial").iterdir()] == ["store.lock"]


def test_runs_travel_packed_where_no_folder_is_shared(tmp_path):
    with probe(tmp_path / "runs") as (path, token):
        assert is_shared(path, token) and not is_shared(path, "other") and not is_shared(f"{path}x", token)
    assert list((tmp_path / "runs").iterdir()) == []
    (tmp_path / "run" / "tables").mkdir(parents=True)
    (tmp_path / "run" / "tables" / "one.csv").write_text("a,b\n")
    unpack(pack(tmp_path / "run"), tmp_path / "there")
    assert (tmp_path / "there" / "tables" / "one.csv").read_text() == "a,b\n"


def test_without_a_shared_folder_results_come_through_ray(trouble, cluster, monkeypatch):
    # The probe names a file that the nodes do not see, as on a cluster without a shared disk.
    script = (
        "import contextlib, sys\nfrom chimera_lib import cli\nfrom chimera_lib.runs import ray_engine\n"
        "ray_engine.probe = lambda root: contextlib.nullcontext(('/nowhere/at/all', 'token'))\ncli.main(sys.argv[1:])"
    )
    trouble.file.write_text("name: trouble\nnotebook: images/01\ngrid: {n: [0, 3, 6]}\n")
    words = ["sweep", str(trouble.file), "--engine", "ray", "--address", cluster.address]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=trouble.project.root,
        env={**trouble.project.environment, **SETTINGS},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    cells = trouble.summary(trouble.project.runs)
    assert [cell["status"] for cell in cells] == ["done", "failed", "done"]
    assert [json.loads((Path(cells[i]["folder"]) / "metrics.json").read_text())["square"]["value"] for i in (0, 2)] == [
        0,
        36,
    ]
    kept = cells[1]["why"].rpartition("; see ")[2]
    assert "three is not allowed" in Path(kept).read_text()


# The last one, since the cluster has one node less after it.
def test_a_worker_and_a_node_are_killed_and_every_other_cell_is_done_once(trouble, cluster):
    runs = trouble.project.runs
    trouble.file.write_text(trouble.file.read_text().replace("pause: 1.0", "pause: 4.0"))
    words = ["sweep", str(trouble.file), "--engine", "ray", "--address", cluster.address]
    driver = subprocess.Popen(
        [sys.executable, "-m", "chimera_lib.cli", *words],
        cwd=trouble.project.root,
        env={**trouble.project.environment, **SETTINGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first, second = cluster.raylets
    lost, _ = wait_for(lambda: running_below(trouble, second, (0, 1, 5, 6, 4)))
    cluster.kill(1)
    hit, worker = wait_for(lambda: running_below(trouble, first))  # the one that was lost, if none other is left
    worker.kill()
    _, said = driver.communicate(timeout=450)
    assert driver.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: 1 failed and 1 timed out of 7 cells;")
    assert trouble.ended() == [0, 1, 2, 5, 6], "each once, whatever was killed"
    cells = trouble.summary(runs)
    assert [cell["status"] for cell in cells] == ["done"] * 3 + ["failed", "timed out"] + ["done"] * 2, said
    assert "three is not allowed" in cells[3]["why"] and f"more than {trouble.patience} s" in cells[4]["why"]
    assert cells[hit]["tries"] >= 2 and cells[lost]["tries"] >= 2 and cells[2]["tries"] >= 2
    assert "retry" in said and "its worker or its node was killed" in said
    assert trouble.project.processes() == {}
    assert [path.name for path in (runs / ".partial").iterdir()] == ["store.lock"]

    (trouble.side / "mended").touch()
    again = trouble.project.chimera(*words)
    assert again.returncode == 0, again.stderr
    assert trouble.ended() == list(range(7)), "what was done is reused"
    assert [cell["status"] for cell in trouble.summary(runs)].count("reused") == 5

    local = trouble.sweep("--output", str(trouble.project.root / "local"), "--jobs", "2")
    assert local.returncode == 0, local.stderr
    assert trouble.metrics(trouble.project.root / "local") == trouble.metrics(runs)
