"""Notebooks in, finished runs out."""

from __future__ import annotations

import json

import pytest
import yaml

from chimera_lib.errors import AssetMissing, ChimeraError, NotebookFailed, UnknownName
from chimera_lib.runs.engine import Cell, Event, run_cells
from chimera_lib.runs.store import Store

LOOK = """
import os, sys
from pathlib import Path
from chimera_lib.runs import record, run_dir
assert run_dir() == Path.cwd() == Path(os.environ["CHIMERA_RUN_DIR"])
assert "startup" not in globals(), "the user's own IPython settings must not reach a run"
Path("figure.png").write_bytes(b"png")
record(steps=steps, executable=sys.executable, n=3)
"""


def kinds(events, name):
    return [event.kind for event in events if event.notebook == name]


def test_a_run_from_end_to_end(project, tmp_path, monkeypatch):
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("startup = True")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    project.write("images/01-first", LOOK, "steps", parameters="steps: int = 2\nrate: float = 0.5  # x = 1")
    events: list[Event] = []
    [run] = run_cells([Cell("images/01", "full")], root=project.root, report=events.append)

    assert run.folder == project.runs / "full" / "images/01-first" / run.id
    found = {path.name for path in run.folder.iterdir()}
    assert found == {"executed.ipynb", "parameters.yml", "metrics.json", "environment.json", "figure.png"}
    assert yaml.safe_load((run.folder / "parameters.yml").read_text()) == {"steps": 7, "rate": 0.5}
    assert run.metrics["steps"] == {"value": 7, "n": 3}
    assert {"date", "machine", "versions", "revision", "blas", "seconds", "files"} <= run.environment.keys()

    cells = json.loads(run.executed.read_text())["cells"]
    assert [cell["metadata"]["tags"] for cell in cells[:2]] == [["parameters"], ["injected-parameters", "hide-input"]]
    assert cells[-1]["outputs"][0]["data"]["text/plain"] == ["7"]

    assert kinds(events, "images/01-first") == ["started", *["cell"] * 4, "finished"]
    assert [(event.number, event.total) for event in events if event.kind == "cell"] == [(n, 4) for n in (1, 2, 3, 4)]

    events.clear()
    again = run_cells([Cell("images/01", "full"), Cell("images/01", "full", {"rate": 0.5})], report=events.append)
    assert again == [run, run], "a value equal to the default asks for the same run"
    assert kinds(events, "images/01-first") == ["reused"]

    before = run.folder.stat().st_ino
    [forced] = run_cells([Cell("images/01", "full")], force=True, report=events.append)
    assert forced.id == run.id
    assert forced.folder.stat().st_ino != before


def test_one_that_fails_does_not_stop_the_others(project):
    project.write(
        "images/01-first", "def f():\n    assert 1 > 2, 'one is less\\nthan two'\nf()", "print('not reached')"
    )
    project.write("images/02-second", "1")
    project.write("images/03-third", "import sys; sys.exit(0)", "print('not reached')")
    events: list[Event] = []
    names = ["images/01", "images/02", "images/03"]
    with pytest.raises(NotebookFailed) as caught:
        run_cells([Cell(name) for name in names], jobs=2, report=events.append)
    message = str(caught.value)
    assert message.startswith("2 notebooks failed: images/01-first: cell 1 raised AssertionError: one is less than two")
    assert "a claim that did not hold" in message
    assert "images/03-third: cell 1 ended in SystemExit" in message
    assert kinds(events, "images/01-first")[-1] == "failed"
    assert kinds(events, "images/02-second")[-1] == "finished"
    assert [run.notebook for run in Store(project.runs).runs()] == ["images/02-second"]
    kept = project.runs / ".failed" / "quick" / "images" / "01-first.ipynb"
    assert str(kept) in message
    assert "AssertionError" in kept.read_text()


@pytest.mark.parametrize(
    ("cell", "error", "said"),
    [
        (Cell("images/09"), UnknownName, "unknown notebook 'images/09'"),
        (Cell("images/01", "quik"), UnknownName, "unknown profile 'quik'"),
        (Cell("images/01", parameters={"stesp": 1}), UnknownName, "did you mean 'steps'"),
        (Cell("images/01", parameters={"steps": "many"}), ChimeraError, "'steps' of images/01-first is int"),
        (Cell("images/02"), AssetMissing, "cifar10"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(project, cell, error, said):
    project.write("images/01-first", "1", parameters="steps: int = 2")
    project.write("images/02-second", "1", metadata={"chimera": {"assets": ["cifar10"]}})
    with pytest.raises(error, match=said):
        run_cells([Cell("images/01"), cell])
    assert not project.runs.exists()


def test_engine_and_jobs_are_checked(project):
    with pytest.raises(UnknownName, match="unknown engine 'cloud'; known: local"):
        run_cells([], engine="cloud", root=project.root)
    with pytest.raises(ChimeraError, match="jobs is 0"):
        run_cells([], jobs=0, root=project.root)


def test_a_report_that_fails_ends_the_work(project):
    project.write("images/01-first", "import time; time.sleep(60)")

    def report(event: Event) -> None:
        if event.kind == "cell":
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError, match="the terminal is gone"):
        run_cells([Cell("images/01")], report=report)
    assert project.processes() == {}
    assert [path.name for path in (project.runs / ".partial").iterdir()] == ["store.lock"]


def test_events_as_text():
    assert str(Event("images/01", "cell", 3, 12, 4.2)) == "images/01 · cell 3 of 12 · 4 s"
    assert str(Event("images/01", "started")) == "images/01 · started"
    assert str(Event("images/01", "finished", seconds=0.4, detail="runs/x")) == "images/01 · finished · 0 s · runs/x"
