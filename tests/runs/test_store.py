"""Finished runs are whole, scratch folders of the dead are swept, those of the living are not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from chimera_lib.runs.store import Store

NAME = "images/01-first"
HOLD = """
import sys
from pathlib import Path
from chimera_lib.runs.store import Store
with Store(Path(sys.argv[1])).partial() as scratch:
    (scratch / "run" / "half").write_text("written")
    print(scratch, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def make(store, run_id="0" * 16, profile="quick", *, value=1, replace=False, date="2026-01-01"):
    with store.partial() as scratch:
        run = scratch / "run"
        (run / "executed.ipynb").write_text("{}")
        (run / "parameters.yml").write_text("{}\n")
        (run / "metrics.json").write_text(json.dumps({"rate": {"value": value}}))
        (run / "environment.json").write_text(json.dumps({"date": date}))
        (run / "tables").mkdir()
        (run / "tables" / "one.csv").write_text("a,b\n")
        return store.put(scratch, profile, NAME, run_id, replace=replace)


def test_what_was_put_is_found(store):
    run = make(store)
    assert store.find("quick", NAME, "0" * 16) == run
    assert run.folder == store.root / "quick" / NAME / ("0" * 16)
    assert run.metrics == {"rate": {"value": 1}}
    assert run.environment["files"]["tables/one.csv"] == 4
    assert store.find("full", NAME, "0" * 16) is None
    assert store.find("quick", NAME, "1" * 16) is None


@pytest.mark.parametrize(
    "name", ["executed.ipynb", "parameters.yml", "metrics.json", "environment.json", "tables/one.csv"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "longer"])
def test_a_damaged_run_is_no_run(store, name, damage):
    path = make(store).folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_text("" if damage == "empty" else path.read_text() + "{")
    assert store.find("quick", NAME, "0" * 16) is None
    assert store.runs() == []
    assert make(store, value=2).metrics["rate"]["value"] == 2, "and it is replaced by a whole one"


def test_the_first_of_two_stays_unless_replaced(store):
    make(store, value=1)
    assert make(store, value=2).metrics["rate"]["value"] == 1
    assert make(store, value=3, replace=True).metrics["rate"]["value"] == 3
    assert [path.name for path in (store.root / ".partial").iterdir()] == ["store.lock"]


def test_runs_are_listed_oldest_first(store):
    make(store, "a" * 16, date="2026-03-01")
    make(store, "b" * 16, date="2026-01-01")
    make(store, "c" * 16, "full", date="2026-02-01")
    with store.partial() as scratch:
        (scratch / "run" / "environment.json").write_text("{}")
        assert [run.id[0] for run in store.runs()] == ["b", "c", "a"]


def test_an_error_leaves_no_scratch_folder(store):
    with pytest.raises(ZeroDivisionError), store.partial():
        raise ZeroDivisionError
    assert [path.name for path in (store.root / ".partial").iterdir()] == ["store.lock"]


def test_sweeping_spares_the_living(store):
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    scratch = [holder.stdout.readline().strip() for holder in holders]
    holders[0].kill()
    holders[0].wait()
    with store.partial() as mine:
        swept = store.sweep()
        assert [str(path) for path in swept] == scratch[:1]
        assert mine.is_dir(), "a scratch folder of this very process is in use as well"
    holders[1].communicate("")
    assert [path.name for path in (store.root / ".partial").iterdir()] == ["store.lock"]
    for holder in holders:
        holder.stdin.close()
        holder.stdout.close()


def test_nothing_to_sweep_makes_nothing(store):
    assert store.sweep() == []
    assert store.runs() == []
    assert not store.root.exists()
