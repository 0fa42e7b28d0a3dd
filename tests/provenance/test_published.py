"""The public checkpoints: every key, shape and dtype, and loading a file that has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.provenance import checkpoints, published
from chimera_lib.provenance.rar import MaskGitVQGANConfig
from chimera_lib.provenance.rar import published as rar

MANIFESTS = Path(__file__).parent / "golden" / "manifests"
SUMMARY = json.loads((MANIFESTS / "SUMMARY.json").read_text())


def test_all_ten_are_listed() -> None:
    assert set(published.PUBLISHED) == set(SUMMARY)
    assert len(SUMMARY) == 10
    assert {source.hub for source in published.PUBLISHED.values()} == {
        "FoundationVision/var",
        "fun-research/TiTok",
        "yucornetto/RAR",
    }


@pytest.mark.parametrize("name", SUMMARY)
def test_keys_shapes_and_dtypes(name: str) -> None:
    model = published.skeleton(name)
    listed = json.loads((MANIFESTS / f"{name}.json").read_text())
    expected = {key: (tuple(shape), dtype) for key, (shape, dtype) in listed.items()}
    found = checkpoints.manifest(model)
    assert str(checkpoints.compare(expected, found)) == "fits"
    assert found == expected
    assert checkpoints.fingerprint(found) == SUMMARY[name]["key_shape_dtype_sha256"]
    assert sum(value.numel() for value in model.parameters()) == SUMMARY[name]["n_parameters"]
    assert all(value.is_meta for value in model.state_dict().values())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """The public tokenizer of RAR under its own name, but a hundredth of the size."""
    name = "maskgit-vqgan-imagenet-f16-256"
    config = MaskGitVQGANConfig(codebook_size=8, z_channels=4, hidden_channels=32, channel_mult=(1, 2))
    monkeypatch.setitem(rar.TOKENIZERS, name, config)
    return name


def test_a_public_file_gives_a_model_ready_for_use(tmp_path: Path, small: str) -> None:
    source, path = rar.build_tokenizer(small).eval(), tmp_path / published.PUBLISHED[small].file
    torch.save(source.state_dict(), path)
    model = published.load(small, path)
    assert not model.training
    images = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(images), source(images))
    half = published.load(small, path, dtype=torch.bfloat16)
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}


def test_a_file_of_another_size_is_refused(tmp_path: Path, small: str) -> None:
    torch.save(rar.build_tokenizer(small, z_channels=5).state_dict(), tmp_path / "model.bin")
    with pytest.raises(ChimeraError, match=r"does not fit MaskGitVQGAN: 4 misshapen \(decoder\.conv_in\.weight"):
        published.load(small, tmp_path / "model.bin")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'rar_s'.*rar_b"):
        published.skeleton("rar_s")
    with pytest.raises(ChimeraError, match="var_d16 needs the tokenizer"):
        published.load("var_d16", tmp_path / "var_d16.pth")
    with pytest.raises(UnknownName, match="tokenizer of RAR"):
        rar.build_tokenizer("titok")
    with pytest.raises(UnknownName, match="unknown RAR 'rar_xxxl'"):
        rar.build_transformer("rar_xxxl")
