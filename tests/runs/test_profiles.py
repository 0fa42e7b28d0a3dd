"""The project's own profiles name notebooks that are there, parameters they declare, and values that change them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from chimera_lib.runs import notebooks, parameters

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("profile", parameters.profiles(ROOT))
def test_a_profile_fits_its_notebooks(profile):
    content = yaml.safe_load((ROOT / "notebooks" / "profiles" / f"{profile}.yml").read_text()) or {}
    for name in content:
        notebook = notebooks.find(name, ROOT)
        assert notebook.name == name
        values = parameters.profile_values(profile, notebook, ROOT)
        assert parameters.changed(values, notebook) == values, "what equals the notebook's default is left out"


def test_there_are_the_two_profiles():
    assert parameters.profiles(ROOT) == ["full", "quick"]


@pytest.mark.parametrize("name", notebooks.names(ROOT))
def test_every_notebook_declares_typed_parameters(name):
    declared = parameters.declared(notebooks.find(name, ROOT))
    assert declared, "a cell tagged `parameters`"
    assert all(parameter.annotation and parameter.has_default for parameter in declared.values())
