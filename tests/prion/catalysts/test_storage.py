"""A catalyst that is saved and read is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import catalysts
from chimera_lib.prion.catalysts import storage

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import GPTNeoXForCausalLM


@pytest.mark.parametrize("kind", ["gaussian_noise", "text_fixed"])
def test_round_trip(kind: str, model: GPTNeoXForCausalLM, text: torch.Tensor, tmp_path: Path) -> None:
    made = catalysts.make(kind, model, None, text, length=8)
    beside = storage.save(tmp_path / "new" / "one.safetensors", made, {"seed": 0})
    assert sorted(path.name for path in beside.parent.iterdir()) == ["one.json", "one.safetensors"]
    again = storage.load(tmp_path / "new" / "one.safetensors")
    assert (again.name, again.repeated) == (kind, True)
    one, two = made.batch(0), again.batch(3)
    assert torch.equal(one.labels, two.labels)
    assert (one.embeddings is None) == (two.embeddings is None)
    if one.embeddings is not None and two.embeddings is not None:
        assert torch.equal(one.embeddings, two.embeddings)


def test_refuses(model: GPTNeoXForCausalLM, text: torch.Tensor, tmp_path: Path) -> None:
    fresh = catalysts.make("random_tokens", model, None, text, length=8)
    with pytest.raises(ChimeraError, match="new at each step"):
        storage.save(tmp_path / "one.safetensors", fresh, {})
    with pytest.raises(ChimeraError, match=r"ends in \.safetensors"):
        storage.save(tmp_path / "one.pt", fresh, {})
    with pytest.raises(ChimeraError, match="no catalyst at"):
        storage.load(tmp_path / "one.safetensors")
    for name in ("one.safetensors", "one.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ChimeraError, match="hold no catalyst"):
        storage.load(tmp_path / "one.safetensors")
