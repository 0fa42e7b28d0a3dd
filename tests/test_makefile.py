"""How ``make`` bootstraps .venv, tried with a stand-in for Python that only notes what it is asked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

PYTHON = """#!/bin/sh
case "$*" in
  "--version") echo Python 3.9.1 ;;
  "-c "*) exit "${TOO_OLD:-0}" ;;
  "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip "*) echo "$*" >> pip.log; touch .venv/half; sleep "${PAUSE:-0}"; touch .venv/whole; exit "${FAIL:-0}" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(PROJECT / "tests" / "peers.txt", tmp_path / "tests")
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "venv", f"PYTHON={folder / 'python'}"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def installs(folder: Path) -> int:
    return sum("--editable" in line for line in (folder / "pip.log").read_text().splitlines())


def test_installs_once_under_the_constraints(folder: Path) -> None:
    assert make(folder).returncode == 0
    log = (folder / "pip.log").read_text()
    assert "--constraint constraints.txt" in log
    assert ".[backends,cluster,dev,pdf]" in log
    assert "--no-deps --requirement tests/peers.txt" in log
    second = make(folder)
    assert second.returncode == 0
    assert "installing" not in second.stdout
    assert installs(folder) == 1


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_installs_again_when_what_it_was_made_from_changes(folder: Path, name: str) -> None:
    make(folder)
    (folder / name).write_text((folder / name).read_text() + "# changed\n")
    assert make(folder).returncode == 0
    assert installs(folder) == 2
    assert len(list((folder / ".venv").glob(".ready-*"))) == 1


def test_an_interrupted_bootstrap_is_begun_anew(folder: Path) -> None:
    command = ["make", "venv", f"PYTHON={folder / 'python'}"]
    environment = os.environ | {"PAUSE": "60"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        while not (folder / ".venv" / "half").exists():
            assert first.poll() is None
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    (folder / ".venv" / "left over").touch()
    second = make(folder)
    assert second.returncode == 0
    assert "anew" in second.stdout
    assert (folder / ".venv" / "whole").exists()
    assert not (folder / ".venv" / "left over").exists()


def test_a_failed_install_is_not_taken_for_done(folder: Path) -> None:
    assert make(folder, FAIL="1").returncode == 2
    assert not list((folder / ".venv").glob(".ready-*"))
    assert make(folder).returncode == 0


def test_an_old_python_is_named_with_the_way_out(folder: Path) -> None:
    done = make(folder, TOO_OLD="1")
    assert done.returncode == 2
    assert "is Python 3.9.1, expected 3.11 or newer: make PYTHON=python3.11" in done.stderr
    assert not (folder / ".venv").exists()
