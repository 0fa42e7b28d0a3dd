"""A small project with notebooks of its own, for the tests of runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import chimera_lib

hypothesis.settings.register_profile("patient", deadline=None)  # the machine may be busy; the tests' own limit holds
hypothesis.settings.load_profile("patient")

CHIMERA = [sys.executable, "-m", "chimera_lib.cli"]


@dataclass(frozen=True)
class Project:
    """A folder with ``notebooks/`` and ``notebooks/profiles/``."""

    root: Path
    library: Path

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def temporary(self) -> Path:
        """Where the processes of the project put what they mean to delete."""
        return self.root / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        added = {"CHIMERA_DATA": self.root / "data", "TMPDIR": self.temporary, "PYTHONPATH": self.library}
        return {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in added.items()}}

    def write(self, name: str, *sources: str, parameters: str = "", metadata: dict[str, Any] | None = None) -> Path:
        """Write a notebook with a parameters cell (where there are parameters) and one code cell per source."""
        cells = [_cell(parameters, ["parameters"])] if parameters else []
        cells += [_cell(source, []) for source in sources]
        cells = [{**cell, "id": f"cell-{number}"} for number, cell in enumerate(cells)]
        document = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata or {}, "cells": cells}
        path = self.root / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    def chimera(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the project's folder."""
        return subprocess.run(
            [*CHIMERA, *arguments], cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command in the project's folder and do not wait for it; its output is discarded."""
        return subprocess.Popen(
            [*CHIMERA, *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def processes(self) -> dict[int, str]:
        """The live processes of this project's runs, kernels and all: process id -> command line (Linux)."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                surroundings = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended while we looked
                continue
            if f"CHIMERA_RUN_DIR={self.root}".encode() in surroundings and command:
                found[int(folder.name)] = command
        return found


def _cell(source: str, tags: list[str]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": tags} if tags else {},
        "outputs": [],
        "source": source,
    }


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package to run from: ids of runs follow the library, which may be edited while tests run."""
    folder = tmp_path_factory.mktemp("library")
    package = Path(chimera_lib.__file__).parent
    shutil.copytree(package, folder / "chimera_lib", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    return folder


@pytest.fixture
def project(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    root = tmp_path / "project {x}"  # papermill takes braces in paths for templates of its own
    profiles = root / "notebooks" / "profiles"
    profiles.mkdir(parents=True)
    (root / "tmp").mkdir()
    (profiles / "quick.yml").write_text("# the notebooks' own defaults\n")
    (profiles / "full.yml").write_text("images/01-first:\n  steps: 7\n")
    monkeypatch.setenv("CHIMERA_DATA", str(root / "data"))
    monkeypatch.chdir(root)
    return Project(root, library)


TROUBLE = """
import os, random, signal, time
from pathlib import Path
from chimera_lib.runs import record
side = Path({side!r})
mended = (side / "mended").exists()
(side / f"begun-{{n}}-{{os.getpid()}}").touch()
if n == 2 and not (side / "killed").exists():
    (side / "killed").touch()
    os.kill(os.getpid(), signal.SIGKILL)
if n == 3 and not mended:
    raise ValueError("three is not allowed")
time.sleep(600 if n == 4 and not mended else pause)
record(square=n * n, drawn=random.Random(n).random())
(side / f"ended-{{n}}-{{os.getpid()}}").touch()
"""


@dataclass(frozen=True)
class Trouble:
    """A sweep over a notebook: cell 2 is killed the first time, 3 fails and 4 hangs until ``mended`` is there."""

    project: Project
    side: Path
    file: Path
    patience: int  # seconds within which this machine, busy as it is, certainly ends a cell

    def begun(self, n: int) -> list[int]:
        """The process ids of the kernels in which cell ``n`` began."""
        return [int(path.name.rpartition("-")[2]) for path in self.side.glob(f"begun-{n}-*")]

    def ended(self) -> list[int]:
        """The cells that came to their end, each as often as it did."""
        return sorted(int(path.name.split("-")[1]) for path in self.side.glob("ended-*"))

    def sweep(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the sweep to its end."""
        return self.project.chimera("sweep", str(self.file), *words)

    def summary(self, output: Path) -> list[dict[str, Any]]:
        """The cells of the summary, in order."""
        cells: list[dict[str, Any]] = json.loads((output / "trouble" / "summary.json").read_text())["cells"]
        return cells

    def metrics(self, output: Path) -> list[str]:
        """The metrics of every cell, in order."""
        return [(Path(cell["folder"]) / "metrics.json").read_text() for cell in self.summary(output)]


@pytest.fixture
def trouble(project: Project) -> Trouble:
    side, file = project.root / "side", project.root / "trouble.yml"
    side.mkdir()
    project.write("images/00-calm", "1")
    began = time.monotonic()
    assert project.chimera("run", "images/00").returncode == 0
    patience = int(max(15, 6 * (time.monotonic() - began)))
    project.write("images/01-first", TROUBLE.format(side=str(side)), parameters="n: int = 9\npause: float = 0.0")
    what = "name: trouble\nnotebook: images/01\ngrid: {n: [0, 1, 2, 3, 4, 5, 6]}\ncells: [{pause: 1.0}]\n"
    file.write_text(f"{what}timeout: {patience}\n")
    return Trouble(project, side, file, patience)
