"""What is measured of a model, against independent ways to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches, corpus, hidden_states, ladder, metrics


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return ladder.new("neox-0.3m", 3).eval()


ROWS = torch.randint(0, 1024, (20, 128), generator=torch.Generator().manual_seed(2))


def test_the_middle_layer_is_the_hidden_state_after_it(model: torch.nn.Module) -> None:
    states = hidden_states.middle(model, [{"input_ids": ROWS[:2]}])
    own = model(input_ids=ROWS[:2], output_hidden_states=True).hidden_states[3]  # 0 is the embedding, layer 2 of 4
    torch.testing.assert_close(states, own.detach().flatten(0, 1))


def test_the_measures_are_those_of_numpy(model: torch.nn.Module) -> None:
    measured = metrics.measure(model, ROWS, weights=True)
    states = hidden_states.middle(model, [{"input_ids": ROWS}]).double().numpy()
    values = np.linalg.svd(states - states.mean(0), compute_uv=False)
    shares = values / values.sum()
    assert measured.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
    assert measured.positions == ROWS.numel()
    assert measured.log_perplexity == pytest.approx(batches.loss(model, batches.Batch(ROWS)).item(), rel=1e-5)
    assert measured.perplexity == pytest.approx(math.exp(measured.log_perplexity))
    assert 1 < measured.weight_rank <= 64


def test_the_batch_size_changes_nothing(model: torch.nn.Module) -> None:
    one, two = metrics.measure(model, ROWS, batch=3), metrics.measure(model, ROWS, batch=20)
    assert one.log_perplexity == pytest.approx(two.log_perplexity, rel=1e-6)
    assert one.effective_rank == pytest.approx(two.effective_rank, rel=1e-6)


def test_too_few_positions_are_refused(model: torch.nn.Module) -> None:
    with pytest.raises(ChimeraError, match="1280 held-out positions, expected 2000 or more"):
        metrics.measure(model, ROWS[:10])


def test_a_diverged_model_is_named(model: torch.nn.Module) -> None:
    broken = ladder.new("neox-0.3m", 3).eval()
    with torch.no_grad():
        broken.gpt_neox.layers[1].mlp.dense_h_to_4h.weight.fill_(math.nan)
    with pytest.raises(ChimeraError, match="not finite"):
        metrics.measure(broken, ROWS)


def test_the_published_measure_pads_and_does_not_centre(model: torch.nn.Module) -> None:
    tokenizer = corpus.ladder_tokenizer()
    measured = metrics.measure_as_published(model, tokenizer)
    states = []
    for text in metrics.SENTENCES:
        row = tokenizer(text, return_tensors="pt", padding="max_length", max_length=128, truncation=True)
        one = model(row.input_ids, attention_mask=row.attention_mask, output_hidden_states=True)
        states.append(one.hidden_states[3][0].detach().numpy())
    values = np.linalg.svd(np.concatenate(states), compute_uv=False)
    shares = values / values.sum()
    kept = shares[shares > 0.01]
    assert measured.effective_rank == pytest.approx(np.exp(-(kept * np.log(kept)).sum()), rel=1e-4)
    assert measured.positions == 5 * 128


def test_the_published_perplexity_is_shifted_twice_and_can_be_mended(model: torch.nn.Module) -> None:
    tokenizer = corpus.ladder_tokenizer()
    ids = [tokenizer(text, return_tensors="pt").input_ids for text in metrics.SENTENCES]
    twice = [model(one[:, :-1], labels=one[:, 1:]).loss.item() * (one.shape[1] - 1) for one in ids]
    total = sum(one.shape[1] - 1 for one in ids)
    assert metrics.measure_as_published(model, tokenizer).log_perplexity == pytest.approx(sum(twice) / total, rel=1e-5)
    once = [model(one, labels=one).loss.item() * (one.shape[1] - 1) for one in ids]
    mended = metrics.measure_as_published(model, tokenizer, double_shift=False)
    assert mended.log_perplexity == pytest.approx(sum(once) / total, rel=1e-5)


def test_another_architecture_without_layers_is_named() -> None:
    with pytest.raises(ChimeraError, match="Linear: expected its layers at"):
        hidden_states.layers(torch.nn.Linear(2, 2))
