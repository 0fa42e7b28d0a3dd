"""The command line: quick to start, and one line for whatever the user can mend."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys

import pytest

from chimera_lib import cli
from chimera_lib.errors import ChimeraError

HEAVY = ["torch", "transformers", "numpy", "scipy", "pandas", "matplotlib", "papermill", "ray", "onnxruntime", "jax"]


def chimera(*arguments, cwd=None):
    command = [sys.executable, "-m", "chimera_lib.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.mark.parametrize("code", ["import chimera_lib", "import chimera_lib.cli, chimera_lib.errors, chimera_lib.runs"])
def test_importing_loads_nothing_heavy(code):
    script = f"{code}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(json.loads(done.stdout))


def test_help_takes_half_a_second():
    # Processor time, the least of five: the bar is for an idle machine, and this one may be training a network.
    taken = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert chimera("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(taken) <= 0.5, f"seconds: {taken}"


def test_help_loads_nothing_heavy():
    script = (
        "import sys, json\nfrom chimera_lib import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print('MODULES', json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(json.loads(done.stdout.partition("MODULES ")[2]))
    for verb in ("run", "runs", "book", "data", "doctor", "images"):
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "No such command 'fly'"),
        (["run"], "Missing argument 'notebook'"),
        (["run", "--fast"], "No such option: --fast"),
        (["run", "images/01", "-p"], "-p needs a name and a value"),
        (["run", "images/01", "-p", "steps"], "-p needs a name and a value"),
        (["run", "images/01", "--jobs", "0"], "--jobs"),
        (["run", "images/01", "--jobs", "many"], "--jobs"),
        (["run", "images/01-frist"], "unknown notebook 'images/01-frist' (did you mean 'images/01-first'?)"),
        (["run", "images/01", "--profile", "ful"], "unknown profile 'ful' (did you mean 'full'?); known: full, quick"),
        (["run", "images/01", "-p", "stpes", "3"], "'stpes' (did you mean 'steps'?); known: steps"),
        (["run", "images/01", "-p", "steps", "abc"], "parameter 'steps' of images/01-first is int, not 'abc'"),
        (["runs", "--depth", "2"], "No such option: --depth"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments, said):
    profiles = tmp_path / "notebooks" / "profiles"
    profiles.mkdir(parents=True)
    for name in ("quick", "full"):
        (profiles / f"{name}.yml").touch()
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "steps: int = 1", "outputs": []}
    (tmp_path / "notebooks/images").mkdir()
    content = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}
    (tmp_path / "notebooks/images/01-first.ipynb").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ChimeraError("two\nlines"), 2, "error: two lines\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/file"), 2, "no space left on the disk at /full/file;"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
    ],
)
def test_errors_become_a_line_and_a_status(monkeypatch, capsys, error, status, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("chimera_lib.runs.store.Store.runs", fail)
    with pytest.raises(SystemExit) as end:
        cli.main(["runs"])
    assert end.value.code == status
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("a defect")])
def test_defects_keep_their_traceback(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("chimera_lib.runs.store.Store.runs", fail)
    with pytest.raises(type(error)):
        cli.main(["runs"])


def test_no_arguments_show_the_help():
    done = chimera()
    assert done.returncode == 2
    assert done.stdout.startswith("Usage: chimera")
    assert done.stderr == ""


def test_runs_of_an_empty_store(tmp_path):
    done = chimera("runs", "--output", str(tmp_path / "none"))
    assert done.returncode == 0
    assert done.stdout == f"no finished runs in {tmp_path / 'none'}; make one: chimera run images/01\n"


def test_book_is_called_with_what_was_asked(monkeypatch, tmp_path, capsys):
    asked = {}

    def build(**given):
        asked.update(given)
        return tmp_path / "html" / "index.html"

    monkeypatch.setattr("chimera_lib.book.build", build)
    with pytest.raises(SystemExit) as end:
        cli.main(["book", "--profile", "full", "--output", str(tmp_path), "--jobs", "2"])
    assert end.value.code == 0
    assert asked == {"profile": "full", "output": tmp_path, "jobs": 2}
    assert capsys.readouterr().out == f"{tmp_path / 'html' / 'index.html'}\n"
