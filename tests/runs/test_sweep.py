"""Sweeps on this machine: every cell done once, those that cannot be done said so, the rest on the next run."""

from __future__ import annotations

import csv
import json
import sys
import time

import psutil
import pytest
import yaml

from chimera_lib.errors import ChimeraError, NotebookFailed
from chimera_lib.runs.attempt import Attempts, TimedOut
from chimera_lib.runs.engine import Plan, execute, prepare
from chimera_lib.runs.events import Event, Outcome
from chimera_lib.runs.execute import Task
from chimera_lib.runs.store import Store
from chimera_lib.runs.summary import Summary

COMMAND = "name: cleaning\ncommand: [ternary, clean, '{word}', '{output}']\ngrid: {word: [--yes, --no-such-option]}\n"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_every_other_cell_is_done_once_and_a_rerun_completes_the_rest(trouble):
    runs = trouble.project.runs
    done = trouble.sweep("--jobs", "2")
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: 1 failed and 1 timed out of 7 cells; why is in {runs}/trouble/summary.csv; "
        "the same command tries these again and reuses the others"
    ]
    assert trouble.ended() == [0, 1, 2, 5, 6]
    cells = trouble.summary(runs)
    assert [cell["status"] for cell in cells] == ["done"] * 3 + ["failed", "timed out"] + ["done"] * 2
    assert [cell["tries"] for cell in cells] == [1, 1, 2, 1, 1, 1, 1]
    assert (
        "ValueError: three is not allowed" in cells[3]["why"] and ".failed/trouble/images/01-first-" in cells[3]["why"]
    )
    assert f"more than {trouble.patience} s" in cells[4]["why"]
    assert cells[4]["seconds"] >= trouble.patience > cells[0]["seconds"] >= 1
    assert all(cell["node"] for cell in cells)
    assert trouble.project.processes() == {}, "a cell over its time leaves no kernel behind"
    with (runs / "trouble" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [cell["status"] for cell in cells]
    assert [row["n"] for row in rows] == list("0123456")
    shown = done.stdout.splitlines()
    assert len(shown) == 9 and shown[0].split()[:3] == ["n", "pause", "status"]
    assert "three is not allowed" in shown[4] and shown[-1].startswith("5 done, 1 failed, 1 timed out; in ")

    dry = trouble.sweep("--dry-run")
    assert [line.split()[1] for line in dry.stdout.splitlines()[:3]] == ["done"] * 3
    assert dry.stdout.splitlines()[-1].startswith("7 cells, 5 done, 2 to do")

    (trouble.side / "mended").touch()
    again = trouble.sweep("--jobs", "2")
    assert again.returncode == 0, again.stderr
    assert trouble.ended() == list(range(7))
    assert [cell["status"] for cell in trouble.summary(runs)] == ["reused"] * 3 + ["done"] * 2 + ["reused"] * 2
    assert json.loads(trouble.metrics(runs)[6])["square"]["value"] == 36


def test_a_command_is_run_in_its_own_folder(project, tmp_path):
    (tmp_path / "sweep.yml").write_text(COMMAND)
    done = project.chimera("sweep", str(tmp_path / "sweep.yml"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    [run] = Store(tmp_path / "out").runs()
    assert (run.profile, run.notebook, run.metrics) == ("cleaning", "ternary/clean", {})
    assert {path.name for path in run.folder.iterdir()} == {
        *("log.txt", "parameters.yml", "metrics.json", "environment.json")
    }
    assert yaml.safe_load((run.folder / "parameters.yml").read_text())["word"] == "--yes"
    assert (run.folder / "log.txt").read_text() == "0 deleted\n"
    [bad] = [cell for cell in json.loads((tmp_path / "out/cleaning/summary.json").read_text())["cells"] if cell["why"]]
    assert bad["status"] == "failed" and "exit status 2: error: No such option: --no-such-option" in bad["why"]
    kept = tmp_path / "out/.failed/cleaning/ternary" / f"clean-{bad['id']}.log"
    assert kept.read_text().startswith("error: ")


def attempt(tmp_path, script, timeout=None):
    """One attempt at a notebook's task that runs a script in place of the notebook."""
    (tmp_path / "run").mkdir()
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": script}
    document = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}
    (tmp_path / "source.ipynb").write_text(json.dumps(document))
    task = Task("images/01", str(tmp_path / "source.ipynb"), str(tmp_path), str(tmp_path), {}, {})
    return Attempts().make(task, lambda *_: None, timeout, {"OMP_NUM_THREADS": "3"})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_timeout_ends_what_a_notebook_has_started_too(tmp_path):
    script = "import subprocess\nfrom pathlib import Path\n"
    script += "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    script += "Path('child').write_text(str(child.pid))\nchild.wait()"
    with pytest.raises(TimedOut, match="more than 15 s"):
        attempt(tmp_path, script, timeout=15)
    child = int((tmp_path / "run" / "child").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_surroundings_reach_the_notebook(tmp_path):
    attempt(tmp_path, "import os\nassert os.environ['OMP_NUM_THREADS'] == '3'", timeout=200)


def test_cards_are_shared_out(monkeypatch):
    from chimera_lib.runs.cards import shares

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert shares(0, 2) == [{}, {}]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in shares(1, 3)] == ["4", "5", "7"]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in shares(0.5, 4)] == ["4", "5", "7", "4"]
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in shares(2, 1)] == ["4,5"]
    with pytest.raises(ChimeraError, match="2 at a time with 2 graphics cards each, but there are 3 cards here"):
        shares(2, 2)


def test_the_summary_is_written_as_it_goes(project, tmp_path):
    project.write("images/01-first", "1", parameters="seed: int = 0")
    from chimera_lib.runs.engine import Cell

    rows = [{"seed": 1}, {"seed": 2}]
    jobs = [prepare(Cell("images/01", parameters=row, sweep="s"), project.root) for row in rows]
    store = Store(tmp_path / "out")
    summary = Summary("s", store, jobs, rows)
    summary.write()
    path = tmp_path / "out" / "s" / "summary.json"
    assert json.loads(path.read_text())["counts"] == {"not done": 2}
    summary._written = float("-inf")  # a second has passed
    summary.settle(Outcome(jobs[1], "failed", 1, 0.5, "here", None, NotebookFailed("two\nlines")))
    assert [cell["why"] for cell in json.loads(path.read_text())["cells"]] == ["", "two lines"]
    assert sorted(one.name for one in path.parent.iterdir()) == ["summary.csv", "summary.json"]
    events: list[Event] = []
    outcomes = execute(jobs, store, project.root, Plan(), events.append)
    assert [outcomes[job.key].status for job in jobs] == ["done", "done"]
    assert {event.notebook for event in events} == {"images/01-first seed=1", "images/01-first seed=2"}
