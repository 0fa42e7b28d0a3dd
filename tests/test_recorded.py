"""Metrics of long commands: written whole with what made them, read back, refused when they make no sense."""

import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest

from chimera_lib import recorded
from chimera_lib.errors import ChimeraError


def test_what_is_written_is_read_back_with_what_made_it(tmp_path: Path) -> None:
    path = tmp_path / "recorded" / "lattice.json"
    metrics = {"rate": {"value": np.float64(0.99), "n": np.int64(200), "ci": (0.97, 1.0)}, "met": np.bool_(True)}
    recorded.write(path, ["chimera", "images", "search"], metrics)
    content = recorded.read(path)
    assert content["command"] == "chimera images search"
    assert content["metrics"] == {"rate": {"value": 0.99, "n": 200, "ci": [0.97, 1.0]}, "met": {"value": True}}
    assert content["versions"]["python"] == platform.python_version()
    assert "core" in content["machine"]
    assert platform.node() not in content["machine"]
    assert [p.name for p in path.parent.iterdir()] == ["lattice.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1, 2], {"n": 3}, {"value": 1, "unit": "s"}])
def test_a_metric_without_a_plain_value_is_refused_and_the_old_file_kept(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    recorded.write(path, "first", {"a": 1})
    with pytest.raises(ChimeraError, match="metric 'a'"):
        recorded.write(path, "second", {"a": value})
    assert recorded.read(path)["command"] == "first"


@pytest.mark.parametrize(("text", "message"), [("{", "is no JSON"), ("{}", "lacks command"), ("[]", "lacks command")])
def test_a_file_that_is_something_else_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ChimeraError, match=message):
        recorded.read(path)


def test_a_missing_file_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="run the command"):
        recorded.read(tmp_path / "none.json")


def test_the_revision_says_when_files_differ_from_it(tmp_path: Path) -> None:
    assert recorded.revision(tmp_path) == ""

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words], check=True)

    git("init", "-q")
    (tmp_path / "a.json").write_text(json.dumps(1))
    git("add", "a.json")
    git("commit", "-qm", "Add a")
    clean = recorded.revision(tmp_path)
    assert len(clean) == 12
    (tmp_path / "a.json").write_text(json.dumps(2))
    assert recorded.revision(tmp_path) == clean + "+changes"
