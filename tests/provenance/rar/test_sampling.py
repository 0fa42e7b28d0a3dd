"""Sampling with the cache: it computes what teacher forcing computes, and draws what the options allow."""

from __future__ import annotations

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar import RAR, Decoding, guided_logits
from tests.provenance.rar import golden_rar

GOLDEN = golden_rar.numbers("small64")
LABELS, TOKENS = GOLDEN["labels"], GOLDEN["tokens"]


@pytest.fixture(scope="module")
def model() -> RAR:
    return golden_rar.transformer()


def test_cached_logits_are_the_teacher_forced_ones(model: RAR) -> None:
    decoding = Decoding(model, model.conditions(LABELS))
    logits = [decoding.next(None)] + [decoding.next(TOKENS[:, place]) for place in range(15)]
    torch.testing.assert_close(torch.stack(logits, 1), GOLDEN["logits"][:, :-1], atol=1e-4, rtol=0)


def test_a_decoding_is_called_in_turn(model: RAR) -> None:
    decoding = Decoding(model, model.conditions(LABELS))
    with pytest.raises(ChimeraError, match="first call takes None"):
        decoding.next(TOKENS[:, 0])
    decoding.next(None)
    with pytest.raises(ChimeraError, match="every later one the tokens"):
        decoding.next(None)
    for place in range(15):
        decoding.next(TOKENS[:, place])
    with pytest.raises(ChimeraError, match="all 16 tokens are written"):
        decoding.next(TOKENS[:, 15])


@pytest.mark.parametrize("cfg", [0.0, 4.0])
@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-6}])
@torch.no_grad()
def test_greedy_sampling_takes_the_likeliest_guided_token(model: RAR, cfg: float, options: dict[str, float]) -> None:
    tokens = model.generate(LABELS, cfg=cfg, cfg_pow=2.75, **options)
    assert tokens.dtype == torch.int64
    assert torch.equal(guided_logits(model, LABELS, tokens, cfg=cfg, cfg_pow=2.75).argmax(-1), tokens)


@torch.no_grad()
def test_first_tokens_are_drawn_with_their_probabilities() -> None:
    model = golden_rar.transformer(length=1)
    count, labels = 3000, torch.full((3000,), 3)
    options = {"cfg": 2.0, "temperature": 1.5, "top_k": 20}
    drawn = model.generate(labels, generator=torch.Generator().manual_seed(0), **options)[:, 0]
    logits = guided_logits(model, labels[:1], TOKENS[:1, :1], cfg=2.0)[0, 0] / 1.5
    kept = logits.topk(20)
    expected = torch.zeros(64).scatter(0, kept.indices, kept.values.softmax(0))
    found = drawn.bincount(minlength=64) / count
    assert set(drawn.tolist()) <= set(kept.indices.tolist())
    # Half the sum of 20 binomial errors; without guidance, or at another temperature, it is 0.1 and more.
    assert float((found - expected).abs().sum() / 2) < 0.05


def test_the_generator_decides(model: RAR) -> None:
    one, same, other = (model.generate(LABELS, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.shape == (2, 16)


def test_no_class_can_be_sampled(model: RAR) -> None:
    nobody = torch.tensor([model.null_label])
    greedy = model.generate(nobody, cfg=7.0, top_k=1)
    assert torch.equal(greedy, model.generate(nobody, cfg=0, top_k=1))  # guidance mixes two equal halves


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"cfg": -1.0}, "cfg is -1.0"),
    ],
)
def test_bad_options_are_refused(model: RAR, wrong: dict[str, float], words: str) -> None:
    with pytest.raises(ChimeraError, match=words):
        model.generate(LABELS, **wrong)
