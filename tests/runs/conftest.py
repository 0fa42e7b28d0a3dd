"""A small project with notebooks of its own, for the tests of runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
