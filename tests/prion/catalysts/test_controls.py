"""Every kind of the table: what it shows, from which seed, whether it repeats itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion import batches, catalysts
from chimera_lib.prion.catalysts import protocol
from tests.prion.hessian.tiny import VOCABULARY

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM

REPEATED = {
    "eigen_prion",
    "eigen_prion_hard",
    "published",
    "gaussian_noise",
    "random_fixed",
    "text_fixed",
    "sham",
}
QUICK: dict[str, dict[str, Any]] = {
    "eigen_prion": {"steps": 2, "rows": 1},
    "eigen_prion_hard": {"steps": 2, "rows": 1},
    "published": {"steps": 2},
}
LENGTH = 10


def shown(kind: str, model: GPTNeoXForCausalLM, text: torch.Tensor, seed: int = 0, **options: Any) -> Any:
    return catalysts.make(kind, model, None, text, length=LENGTH, seed=seed, **QUICK.get(kind, {}) | options)


def same(one: batches.Batch, two: batches.Batch) -> bool:
    if (one.embeddings is None) != (two.embeddings is None):
        return False
    inputs = one.embeddings is None or torch.equal(one.embeddings, two.embeddings)
    return torch.equal(one.labels, two.labels) and inputs


@pytest.mark.parametrize("kind", catalysts.KINDS)
def test_contract(kind: str, model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    made = shown(kind, model, text)
    first = made.batch(0)
    assert made.name == kind
    assert first.labels.shape == (1, LENGTH)
    assert int(first.labels.max()) < VOCABULARY
    assert float(batches.loss(model, first).detach()) > 0
    assert made.repeated == (kind in REPEATED)
    assert same(first, made.batch(1)) == made.repeated
    assert same(made.batch(7), made.batch(7))
    assert same(first, shown(kind, model, text).batch(0)), "the same seed gives the same"
    assert not same(first, shown(kind, model, text, seed=1).batch(0)), "another seed gives another"
    if first.embeddings is not None:
        assert first.embeddings.shape == (1, LENGTH, 8)
        assert not first.embeddings.requires_grad


@pytest.mark.parametrize("kind", ["text_fixed", "random_text", "sham"])
def test_text_is_text(kind: str, model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    made = shown(kind, model, text)
    passages = text.unfold(0, LENGTH, 1)
    for step in range(3):
        assert (passages == made.batch(step).labels).all(1).any()


def test_noise_has_the_norm_of_the_embeddings(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    norms = shown("gaussian_noise", model, text).batch(0).embeddings.norm(dim=-1)
    assert torch.allclose(norms, torch.full_like(norms, protocol.mean_norm(model)), rtol=1e-5)


def test_noise_as_published(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    made = shown("gaussian_noise", model, text, fresh=True, deviation=0.1)
    drawn = torch.cat([made.batch(step).embeddings for step in range(20)])
    assert not made.repeated
    assert float(drawn.std()) == pytest.approx(0.1, rel=0.1)


def test_tokens_that_the_tokenizer_lacks_are_not_drawn(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    made = catalysts.make("random_fixed", model, range(4), text, length=60)
    assert int(made.batch(0).labels.max()) == 3


def test_refuses(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    with pytest.raises(UnknownName, match=r"'random_txt' \(did you mean 'random_text'"):
        catalysts.make("random_txt", model, None, text)
    with pytest.raises(ChimeraError, match="length is 2"):
        catalysts.make("random_fixed", model, None, text, length=2)
    with pytest.raises(ChimeraError, match="length is 601: expected 3 to 600"):
        catalysts.make("random_text", model, None, text, length=601)
