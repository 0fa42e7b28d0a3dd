"""SmolLM2-135M: converted once, whole or not at all; and the real one reads English."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from chimera_lib import assets
from chimera_lib.errors import AssetMissing, ChimeraError
from chimera_lib.prion import models, smollm

if TYPE_CHECKING:
    from pathlib import Path

WINDOW = 256


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which the asset's folder is there."""
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path))
    folder = tmp_path / f"smollm2-135m-{assets.get('smollm2-135m').content[:12]}"
    folder.mkdir()
    return folder


def test_it_is_converted_once_and_says_so(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, lines = [], []

    def convert(given: Path, target: Path) -> None:
        calls.append(given)
        (target / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(smollm, "convert", convert)
    first, again = smollm.folder(lines.append), smollm.folder(lines.append)
    assert first == again == source.with_name(f"{source.name}-safetensors") and calls == [source]
    assert (first / "model.safetensors").read_bytes() == b"weights"
    assert len(lines) == 1 and "538 MB" in lines[0] and str(first) in lines[0]


def test_a_broken_conversion_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(_: Path, target: Path) -> None:
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm, "convert", convert)
    with pytest.raises(KeyboardInterrupt):
        smollm.folder(lambda _: None)
    assert not [one for one in source.parent.iterdir() if "safetensors" in one.name]
    assert not list((source.parent / ".partial").iterdir())


def test_without_the_asset_or_the_room_it_says_so(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm, "BYTES", 10**18)
    with pytest.raises(ChimeraError, match="make room, or set CHIMERA_DATA"):
        smollm.folder(lambda _: None)
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "empty"))
    with pytest.raises(AssetMissing, match="chimera data fetch smollm2-135m"):
        models.load("smollm2-135m")


def test_the_stated_shape_has_the_models_parameters() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(smollm.config())
    assert isinstance(model, LlamaForCausalLM) and model.num_parameters() == 134_515_008


@pytest.mark.slow
@pytest.mark.skipif(not assets.present("smollm2-135m"), reason="smollm2-135m is not in the cache")
def test_the_real_model_reads_its_licence() -> None:
    """Eight windows of 256 tokens; the perplexity of a wrong conversion is in the thousands."""
    loaded = models.load("smollm2-135m")
    stated, found = smollm.config().to_dict(), loaded.model.config.to_dict()
    for key in ("hidden_size", "num_hidden_layers", "num_key_value_heads", "vocab_size", "rope_parameters"):
        assert stated[key] == found[key], key
    assert loaded.model.config.rms_norm_eps == pytest.approx(1e-5)
    text = (assets.path("smollm2-135m") / "LICENSE").read_text(encoding="utf-8")
    tokens = torch.tensor(loaded.tokenizer(text)["input_ids"])
    windows = tokens[: len(tokens) // WINDOW * WINDOW].view(-1, WINDOW)
    assert windows.shape == (8, WINDOW)
    with torch.no_grad():
        losses = [loaded.model(input_ids=one[None], labels=one[None]).loss.item() for one in windows]
    assert math.exp(sum(losses) / len(losses)) == pytest.approx(24.0, rel=0.05)
