"""Finding notebooks, and refusing those that did not run to their end."""

from __future__ import annotations

import json

import pytest

from chimera_lib.errors import ChimeraError, NotebookFailed, UnknownName
from chimera_lib.runs import notebooks


@pytest.fixture
def root(project):
    for name in ("images/01-first", "images/02-second", "vlm/01-noise"):
        project.write(name, "1 + 1", metadata={"chimera": {"part": name.split("/")[0], "assets": ["cifar10"]}})
    project.write("images/.ipynb_checkpoints-x", "1")
    return project.root


@pytest.mark.parametrize(
    "name", ["images/01-first", "images/01", "notebooks/images/01-first.ipynb", "./notebooks/images/01-first.ipynb"]
)
def test_find(root, name):
    found = notebooks.find(name, root)
    assert found.name == "images/01-first"
    assert found.part == "images"
    assert found.assets == ["cifar10"]


def test_an_unknown_name_lists_what_there_is(root):
    with pytest.raises(UnknownName) as caught:
        notebooks.find("image/01-first", root)
    assert "'image/01-first' (did you mean 'images/01-first'?)" in str(caught.value)
    assert "known: images/01-first, images/02-second, vlm/01-noise" in str(caught.value)


def test_an_ambiguous_prefix_lists_its_matches(root):
    with pytest.raises(ChimeraError, match="'images' fits several notebooks: images/01-first, images/02-second"):
        notebooks.find("images", root)


def test_an_empty_name_fits_nothing(root):
    with pytest.raises(UnknownName):
        notebooks.find("", root)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 3, "worksheets": []}', '{"nbformat": 4}'])
def test_what_is_no_notebook_is_said(root, content):
    (root / "notebooks/images/01-first.ipynb").write_text(content)
    with pytest.raises(ChimeraError, match=r"01-first\.ipynb is not a notebook"):
        notebooks.find("images/01", root)


def test_the_project_is_found_from_below(root):
    below = root / "notebooks" / "images"
    assert notebooks.project_root(below) == root.resolve()


def test_no_project_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "__file__", str(tmp_path / "site-packages/chimera_lib/runs/notebooks.py"))
    with pytest.raises(ChimeraError, match="no notebooks/ found"):
        notebooks.project_root(tmp_path)


def executed(tmp_path, *cells):
    path = tmp_path / "executed.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}))
    return path


def code(source="1", count=1, outputs=()):
    return {"cell_type": "code", "source": source, "execution_count": count, "outputs": list(outputs), "metadata": {}}


def test_a_notebook_that_ran_is_accepted(tmp_path):
    prose = {"cell_type": "markdown", "source": "# Title", "metadata": {}}
    notebooks.check_executed(executed(tmp_path, prose, code(), code(source="", count=None), code(source=["a\n", "b"])))


def test_a_cell_that_never_ran_is_refused(tmp_path):
    with pytest.raises(NotebookFailed, match="cell 2 has no output, since it never ran"):
        notebooks.check_executed(executed(tmp_path, code(), code(count=None)))


def test_an_error_is_refused(tmp_path):
    output = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
    with pytest.raises(NotebookFailed, match=r"images/01: cell 1 ended in ValueError"):
        notebooks.check_executed(executed(tmp_path, code(outputs=[output])), "images/01")
