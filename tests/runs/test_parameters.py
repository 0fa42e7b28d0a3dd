"""What a notebook declares, and what values it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.runs.notebooks import Notebook
from chimera_lib.runs.parameters import changed, check, declared, effective, parse, profile_values

CELL = """
# How the search goes.
steps: int = 50  # Adam steps per image; lr = 0.1 stays
rate: float = 1e-3
name: str = "boundary"
dry: bool = False
radius: float | None = 0.5
sizes: list[int] = [
    1,  # the first
    2,
]
pair: tuple[int, float] = (1, 2.0)
mode: "Literal['a', 'b']" = "a"
plain = 3
computed: int = 2 * 21
options: dict[str, int] = {}
"""


def notebook(source=CELL, name="images/01-first"):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": source, "outputs": []}
    return Notebook(name, Path("unused.ipynb"), {"nbformat": 4, "metadata": {}, "cells": [cell]})


def test_every_declaration_is_found():
    found = declared(notebook())
    expected = ["steps", "rate", "name", "dry", "radius", "sizes", "pair", "mode", "plain", "computed", "options"]
    assert list(found) == expected
    assert found["steps"].annotation == "int"
    assert found["plain"].annotation == "int"
    assert found["sizes"].default == [1, 2]
    assert not found["computed"].has_default


def test_a_notebook_without_the_cell_declares_nothing():
    empty = Notebook("images/x", Path("x"), {"cells": [], "metadata": {}})
    assert declared(empty) == {}
    with pytest.raises(UnknownName, match="there is no parameter"):
        check({"steps": 1}, empty)


def test_a_cell_that_is_not_python_is_said():
    with pytest.raises(ChimeraError, match="not Python"):
        declared(notebook("steps: int ="))


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("steps", "12", 12),
        ("steps", "012", 12),
        ("rate", "1e-4", 1e-4),
        ("rate", "2", 2.0),
        ("name", "on", "on"),
        ("name", "12", "12"),
        ("dry", "yes", True),
        ("dry", "False", False),
        ("radius", "null", None),
        ("radius", "None", None),
        ("radius", "3", 3.0),
        ("sizes", "[4, 5]", [4, 5]),
        ("pair", "[1, 2]", [1, 2.0]),
        ("mode", "b", "b"),
        ("plain", "-4", -4),
        ("computed", "1", 1),
        ("options", "{a: 1}", {"a": 1}),
    ],
)
def test_values_as_typed(name, raw, value):
    got = parse({name: raw}, notebook())[name]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("steps", "abc"),
        ("steps", "1.5"),
        ("steps", "true"),
        ("rate", "fast"),
        ("dry", "maybe"),
        ("dry", "2"),
        ("radius", "wide"),
        ("sizes", "3"),
        ("sizes", "[a]"),
        ("sizes", "[1"),
        ("pair", "[1, 2, 3]"),
        ("mode", "c"),
        ("plain", "x"),
        ("options", "[1]"),
        ("options", "{a: 2020-01-01}"),
    ],
)
def test_values_that_do_not_fit(name, raw):
    with pytest.raises(ChimeraError) as caught:
        parse({name: raw}, notebook())
    message = str(caught.value)
    assert name in message
    assert "images/01-first" in message
    assert "\n" not in message


def test_an_undeclared_parameter_names_the_closest():
    with pytest.raises(UnknownName, match=r"'stpes' \(did you mean 'steps'\?\); known: steps, rate"):
        check({"stpes": 3}, notebook())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "steps": st.integers(),
            "rate": st.floats(allow_nan=False),
            "name": st.text(),
            "dry": st.booleans(),
            "radius": st.none() | st.floats(allow_nan=False),
            "sizes": st.lists(st.integers()),
        },
    )
)
def test_values_of_the_declared_types_pass_unchanged(values):
    assert check(values, notebook()) == values
    assert check(json.loads(json.dumps(values)), notebook()) == values


def test_values_equal_to_the_defaults_make_the_same_run():
    values = {"steps": 50, "rate": 0.001, "pair": [1, 2.0], "dry": True, "computed": 42}
    assert changed(values, notebook()) == {"dry": True, "computed": 42}


def test_effective_values_take_defaults_in():
    values = effective({"steps": 7}, notebook())
    assert values["steps"] == 7
    assert values["rate"] == 1e-3
    assert "computed" not in values


class TestProfiles:
    def test_values_of_a_profile(self, project):
        assert profile_values("full", notebook(), project.root) == {"steps": 7}
        assert profile_values("quick", notebook(), project.root) == {}

    def test_an_unknown_profile_lists_what_there_is(self, project):
        with pytest.raises(UnknownName, match=r"'fulll' \(did you mean 'full'\?\); known: full, quick"):
            profile_values("fulll", notebook(), project.root)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("images/01-first:\n  steps: many\n", "'steps' .* is int, not 'many'"),
            ("images/01-first:\n  stpes: 1\n", "did you mean 'steps'"),
            ("images/01-first: 3\n", "must map"),
            ("- 1\n", "must map"),
            ("images/01-first: [\n", "is not YAML"),
        ],
    )
    def test_a_bad_profile_is_said(self, project, content, said):
        (project.root / "notebooks/profiles/full.yml").write_text(content)
        with pytest.raises(ChimeraError, match=said):
            profile_values("full", notebook(), project.root)

    def test_yaml_numbers_that_python_would_read_are_read(self, project):
        (project.root / "notebooks/profiles/full.yml").write_text("images/01-first: {rate: 1e-3, radius: 2}\n")
        assert profile_values("full", notebook(), project.root) == {"rate": 1e-3, "radius": 2.0}
