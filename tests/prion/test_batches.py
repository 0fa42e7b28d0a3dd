"""The loss of a batch, against the model's own and against labels shifted by hand."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from chimera_lib.prion import batches, ladder

IDS = torch.randint(0, 1024, (2, 9), generator=torch.Generator().manual_seed(0))


def test_the_loss_is_the_model_s_own() -> None:
    model = ladder.new("neox-0.3m", 0).eval()
    own = model(input_ids=IDS, labels=IDS).loss
    torch.testing.assert_close(batches.loss(model, batches.Batch(IDS)), own)


def test_embeddings_of_the_tokens_give_the_loss_of_the_tokens() -> None:
    model = ladder.new("neox-0.3m", 0).eval()
    vectors = model.get_input_embeddings()(IDS)
    by_vectors = batches.loss(model, batches.Batch(IDS, vectors))
    torch.testing.assert_close(by_vectors, batches.loss(model, batches.Batch(IDS)))


def test_a_double_shift_judges_by_the_token_two_places_on() -> None:
    model = ladder.new("neox-0.3m", 0).eval()
    logits = model(input_ids=IDS[:, :-1]).logits
    by_hand = cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 2:].flatten())
    torch.testing.assert_close(batches.loss(model, batches.Batch(IDS), double_shift=True), by_hand)
    as_done = model(input_ids=IDS[:, :-1], labels=IDS[:, 1:]).loss  # how the published code calls the model
    torch.testing.assert_close(as_done, by_hand)
