"""The id of a run changes with everything that its results follow from, and with nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chimera_lib.runs import sweep_file
from chimera_lib.runs.identity import PACKAGE, command_id, library_digest, run_id
from chimera_lib.runs.notebooks import Notebook

SOURCES = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=4)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
PARAMETERS = st.dictionaries(st.sampled_from(["seed", "steps", "radius", "start"]), VALUES, max_size=4)
CHECKSUMS = st.dictionaries(st.sampled_from(["cifar10", "minilm"]), st.text("0123456789abcdef", min_size=4, max_size=8))


def notebook(sources, *, kind="code", tags=(), outputs=(), count=None, ids="cell"):
    cells = [
        {
            "cell_type": kind,
            "id": f"{ids}-{number}",
            "metadata": {"tags": list(tags), "execution": {"iopub.status.idle": ids}},
            "source": source,
            **({"outputs": list(outputs), "execution_count": count} if kind == "code" else {}),
        }
        for number, source in enumerate(sources)
    ]
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": ids}}, "cells": cells}
    return Notebook("images/01-first", Path("unused.ipynb"), content)


@given(SOURCES, PARAMETERS, CHECKSUMS, st.integers(1, 99), st.text("abc", min_size=1, max_size=5))
def test_outputs_counts_and_ids_do_not_matter(sources, parameters, checksums, count, other):
    clean = run_id(notebook(sources), parameters, checksums)
    output = {"output_type": "stream", "name": "stdout", "text": other}
    used = notebook(sources, outputs=[output], count=count, ids=other)
    for cell in used.content["cells"]:
        cell["metadata"] |= {"papermill": {"duration": count}, "scrolled": True, "collapsed": False}
    assert run_id(used, parameters, checksums) == clean


@given(SOURCES)
def test_a_source_written_as_lines_is_the_same(sources):
    lines = [source.splitlines(keepends=True) for source in sources]
    assert run_id(notebook(lines), {}, {}) == run_id(notebook(sources), {}, {})


@given(SOURCES, SOURCES)
def test_source_matters(one, other):
    assume(one != other)
    assert run_id(notebook(one), {}, {}) != run_id(notebook(other), {}, {})


@given(SOURCES)
def test_the_kind_of_a_cell_and_its_tags_matter(sources):
    variants = [notebook(sources), notebook(sources, kind="markdown"), notebook(sources, tags=["hide-input"])]
    assert len({run_id(variant, {}, {}) for variant in variants}) == 3


@given(PARAMETERS, PARAMETERS)
def test_parameters_matter(one, other):
    assume(repr(sorted(one.items(), key=lambda pair: pair[0])) != repr(sorted(other.items(), key=lambda pair: pair[0])))
    # Mappings that differ in the order of their keys alone are one and the same.
    assume(one != other or repr(one).count("{") == 1)
    same = run_id(notebook(["x"]), one, {}) == run_id(notebook(["x"]), other, {})
    assert not same


@given(PARAMETERS)
def test_the_order_of_parameters_does_not_matter(parameters):
    backwards = dict(reversed(list(copy.deepcopy(parameters).items())))
    assert run_id(notebook(["x"]), backwards, {}) == run_id(notebook(["x"]), parameters, {})


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0.0, -0.0), ("1", 1), (None, "None"), ([1], ["1"])])
def test_values_that_look_alike_are_told_apart(one, other):
    assert run_id(notebook(["x"]), {"p": one}, {}) != run_id(notebook(["x"]), {"p": other}, {})


@given(CHECKSUMS, CHECKSUMS)
def test_checksums_of_assets_matter(one, other):
    assume(one != other)
    assert run_id(notebook(["x"]), {}, one) != run_id(notebook(["x"]), {}, other)


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "chimera_lib"
    for name in (
        "stats.py",
        "cli.py",
        "images/search.py",
        "images/commands/search.py",
        "vlm/noise.py",
        "weights/net.safetensors",
        "prion/published_runs.csv",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def digest(package, part):
    library_digest.cache_clear()
    return library_digest(package, part)


@pytest.mark.parametrize("name", ["stats.py", "images/search.py", "weights/net.safetensors", "images/new.py"])
def test_the_library_matters(package, name):
    before = digest(package, "images")
    (package / name).write_text("changed")
    assert digest(package, "images") != before


def test_a_renamed_module_matters(package):
    before = digest(package, "images")
    (package / "stats.py").rename(package / "statistics.py")
    assert digest(package, "images") != before


@pytest.mark.parametrize("name", ["cli.py", "images/commands/search.py", "vlm/noise.py", "images/notes.txt"])
def test_what_a_notebook_cannot_compute_with_does_not_matter(package, name):
    before = digest(package, "images")
    (package / name).write_text("changed")
    assert digest(package, "images") == before


def test_a_notebook_of_no_part_depends_on_all_parts(package):
    before = digest(package, None)
    (package / "vlm/noise.py").write_text("changed")
    assert digest(package, None) != before


def test_the_library_of_this_project_is_part_of_the_id(monkeypatch, package):
    before = run_id(notebook(["x"]), {}, {})
    monkeypatch.setattr("chimera_lib.runs.identity.PACKAGE", package)
    library_digest.cache_clear()
    assert run_id(notebook(["x"]), {}, {}) != before


def test_data_in_tables_matter(package):
    before = digest(package, "prion")
    (package / "prion/published_runs.csv").write_text("changed")
    assert digest(package, "prion") != before


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path))
    folder = tmp_path / "prion-ladder"
    folder.mkdir()
    for name in ("neox-8m-matched-loss", "neox-8m-matched-tokens", "neox-1m-matched-loss"):
        (folder / f"{name}.safetensors").write_text("weights")
    return folder


CELL = ["prion", "run", "--model", "neox-8m"]


@pytest.mark.parametrize(
    ("words", "file", "matters"),
    [
        (CELL, "neox-8m-matched-loss", True),
        (CELL, "neox-8m-matched-tokens", False),
        ([*CELL, "--checkpoint", "matched-tokens"], "neox-8m-matched-tokens", True),
        (["prion", "run", "--model", "neox-1m"], "neox-1m-matched-loss", False),  # the package's own is taken
        (["prion", "run", "--model", "neox-0.3m"], "neox-8m-matched-loss", False),
        (["vlm", "run", "neox-8m"], "neox-8m-matched-loss", False),
    ],
)
def test_weights_trained_here_matter_to_the_commands_that_name_them(ladder, words, file, matters):
    before = command_id(words, {}, {})
    (ladder / f"{file}.safetensors").write_text("trained again")
    assert (command_id(words, {}, {}) != before) == matters


def test_weights_trained_here_matter_to_the_notebooks_whose_parameters_name_them(ladder):
    one = notebook(["models = 'neox-0.3m'"], tags=["parameters"])
    one.content["metadata"]["chimera"] = {"part": "prion"}
    before = [run_id(one, values, {}) for values in ({}, {"models": "neox-8m"})]
    (ladder / "neox-8m-matched-loss.safetensors").write_text("trained again")
    after = [run_id(one, values, {}) for values in ({}, {"models": "neox-8m"})]
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "notebooks" / "sweeps").glob("prion-*.yml")))
def test_the_sweeps_of_the_experiment_name_their_text(path):
    assert "shakespeare" in sweep_file.read(path).assets
