"""The public checkpoints' keys, shapes and types are exactly those of the classes at their real sizes."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.provenance.var import build_tokenizer, build_transformer
from chimera_lib.provenance.var.configurations import TRANSFORMERS
from tests.provenance.var.golden_var import GOLDEN

PARAMETERS = {
    "vae_ch160v4096z32": 108_948_355,
    "var_d16": 310_283_520,
    "var_d20": 600_917_136,
    "var_d24": 1_033_399_360,
    "var_d30": 2_010_020_356,
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        vae = build_tokenizer()
        return build_transformer(name, vae) if name in TRANSFORMERS else vae


@pytest.mark.parametrize("name", PARAMETERS)
def test_keys_shapes_and_types(name: str) -> None:
    expected = json.loads((GOLDEN / "manifests" / f"{name}.json").read_text())
    model = on_meta(name)
    ours = {k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in model.state_dict().items()}
    assert ours == expected
    assert sum(one.numel() for one in model.parameters()) == PARAMETERS[name]


def test_a_checkpoint_of_these_keys_loads_strictly() -> None:
    expected = json.loads((GOLDEN / "manifests" / "var_d30.json").read_text())
    state = {k: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for k, (shape, kind) in expected.items()}
    model = on_meta("var_d30")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # copying to the meta device does nothing, and torch says so
        model.load_state_dict(state, strict=True)
    del state["pos_start"]
    with pytest.raises(RuntimeError, match="pos_start"):
        model.load_state_dict(state, strict=True, assign=True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match="var_d16"):
        build_transformer("var_d17", build_tokenizer(ch=32))
    with pytest.raises(UnknownName, match="vae_ch160v4096z32"):
        build_tokenizer("vae")
