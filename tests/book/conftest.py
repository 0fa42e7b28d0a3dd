"""A small book: one prose page, one notebook that ran, one bar; and an asset cache of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chimera_lib import assets

ROOT = Path(__file__).resolve().parents[2]
NAME = "images/02-boundary"


def cell(kind: str, source: str, outputs: list[dict[str, Any]] | None = None, **metadata: object) -> dict[str, Any]:
    """Make a notebook's cell; a code cell counts as executed."""
    made: dict[str, Any] = {"cell_type": kind, "id": f"c{abs(hash(source)) % 10**8}", "source": source}
    made["metadata"] = metadata
    if kind == "code":
        made |= {"outputs": outputs or [], "execution_count": 1}
    return made


def write_run(folder: Path, cells: list[dict[str, Any]], metrics: dict[str, Any]) -> Path:
    """Write a finished run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"language_info": {"name": "python"}, "papermill": {"duration": 1.5}, "widgets": {"state": {}}}
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
    (folder / "executed.ipynb").write_text(json.dumps(notebook))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "environment.json").write_text(json.dumps({"date": "2026-11-21T10:00:00+00:00", "machine": "a laptop"}))
    return folder


@pytest.fixture
def make_cell() -> Callable[..., dict[str, Any]]:
    """The function that makes a notebook's cell."""
    return cell


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., dict[str, Path]]:
    """A function that writes a run of the book's only notebook from its cells."""

    def make(*cells: dict[str, Any]) -> dict[str, Path]:
        return {NAME: write_run(tmp_path / "made" / NAME, list(cells), {"rate": {"value": 0.5}})}

    return make


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with a book of two pages, and the look of the real one."""
    root = tmp_path / "project"
    (root / "book").mkdir(parents=True)
    shutil.copyfile(ROOT / "_config.yml", root / "_config.yml")
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    shutil.copyfile(ROOT / "book" / "references.bib", root / "book" / "references.bib")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n- caption: I\n  chapters:\n"
        f"  - file: notebooks/{NAME}\n  - file: book/table-of-figures\n"
    )
    (root / "book" / "intro.md").write_text(
        "# A small book\n\nA rate of {{ images/02-boundary:rate|.1% }}, where $x^2 < 1$; "
        f"see [the page](../notebooks/{NAME}.ipynb).\n"
    )
    (root / "book" / "figures.yml").write_text(
        f"- {{id: rate, part: I, text: a rate, bar: ≥ 90 %, at_least: 0.9, format: .1%, metric: '{NAME}:rate', "
        f"command: chimera run {NAME}}}\n"
    )
    return root


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """The run of the book's only notebook."""
    cells = [
        cell("markdown", "# Boundary\n\nIts rate is {{ images/02-boundary:rate|.0% }}."),
        cell("code", "steps = 7", tags=["injected-parameters"]),
        cell("code", "print(1)", [{"output_type": "stream", "name": "stdout", "text": "1\n"}]),
    ]
    metrics = {"rate": {"value": 0.975, "n": 200, "ci": [0.94, 0.99]}}
    return {NAME: write_run(tmp_path / "runs" / NAME, cells, metrics)}


@pytest.fixture
def mathjax(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a stand-in for MathJax, so that no test needs a registry."""
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / f"mathjax-{assets.ASSETS['mathjax'].content[:12]}"
    for inside in ("a11y", "sre", "ui"):
        (folder / "es5" / inside).mkdir(parents=True)
        (folder / "es5" / inside / "part.js").write_text("// part")
    (folder / "es5" / "tex-svg-full.js").write_text("// mathematics")
    (folder / "LICENSE").write_text("a licence")
    return folder
