"""What a notebook records, and what prose reads back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.runs import measured, record, run_dir
from chimera_lib.runs.store import Store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CHIMERA_RUN_DIR", str(tmp_path))
    return tmp_path


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_calls_add_up(folder):
    record(rate=0.5, n=200, ci=(0.4, 0.6))
    record(found=np.float32(2.5), held=np.bool_(True), name="boundary", count=np.int64(3))
    assert metrics(folder) == {
        "rate": {"value": 0.5, "n": 200, "ci": [0.4, 0.6]},
        "found": {"value": 2.5},
        "held": {"value": True},
        "name": {"value": "boundary"},
        "count": {"value": 3},
    }
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]
    assert run_dir() == folder


def test_a_metric_twice_is_an_error(folder):
    record(rate=0.5)
    with pytest.raises(ChimeraError, match="'rate' is recorded twice"):
        record(other=1, rate=0.5)
    assert metrics(folder) == {"rate": {"value": 0.5}}


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"rate": float("nan")}, "finite"),
        ({"rate": np.array([1.0, 2.0])}, "one by one"),
        ({"rate": [1.0]}, "is a list"),
        ({"rate": None}, "is a NoneType"),
        ({"rate": 0.5, "ci": (0.6, 0.4)}, "low <= high"),
        ({"rate": 0.5, "ci": (0.6,)}, "low, high"),
        ({"rate": 0.5, "ci": ("a", "b")}, "low, high"),
        ({"rate": 0.5, "n": -1}, "whole number"),
        ({"rate": 0.5, "n": 2.5}, "whole number"),
        ({"rate": 0.5, "n": True}, "whole number"),
    ],
)
def test_what_is_no_metric_is_refused(folder, keywords, said):
    with pytest.raises(ChimeraError, match=said):
        record(**keywords)
    assert not (folder / "metrics.json").exists()


def test_outside_of_a_run_numbers_are_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CHIMERA_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    record(rate=0.51234567, n=200, ci=(0.4, 0.6))
    assert capsys.readouterr().out == "rate = 0.5123 (0.4 to 0.6, n = 200)\n"
    assert list(tmp_path.iterdir()) == []
    assert run_dir() is None


def test_measured_reads_the_newest_run(tmp_path):
    store = Store(tmp_path / "runs")
    for number, date in enumerate(["2026-01-02", "2026-01-03", "2026-01-01"]):
        with store.partial() as scratch:
            for name in ("executed.ipynb", "parameters.yml"):
                (scratch / "run" / name).write_text("{}")
            (scratch / "run/metrics.json").write_text(json.dumps({"rate": {"value": number}}))
            (scratch / "run/environment.json").write_text(json.dumps({"date": date}))
            store.put(scratch, "quick", "images/01-first", f"{number:016}")
    output = tmp_path / "runs"
    assert measured("images/01-first:rate", output=output) == {"value": 1}
    with pytest.raises(UnknownName, match="did you mean 'rate'"):
        measured("images/01-first:rat", output=output)
    with pytest.raises(ChimeraError, match="no finished run of 'images/01-first' under profile 'full'"):
        measured("images/01-first:rate", profile="full", output=output)
    with pytest.raises(ChimeraError, match="NOTEBOOK:METRIC"):
        measured("rate", output=output)
