"""The published catalyst: tokens near vectors of length 1 that went up the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from chimera_lib.prion import catalysts
from chimera_lib.prion.batches import Batch, loss
from chimera_lib.prion.catalysts import protocol
from chimera_lib.prion.catalysts.published import nearest

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM


def test_one_step_by_hand(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    made = catalysts.make("published", model, None, text, length=12, seed=4, steps=1)
    weight = protocol.embeddings(model)
    ids = protocol.random_tokens(len(weight), 12, protocol.generator(4), weight.device)
    vectors = weight[ids].clone().requires_grad_(True)
    logits = model(inputs_embeds=vectors[:, :-1]).logits  # the code's shift, and then the model's own
    value = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 2:].flatten())
    (uphill,) = torch.autograd.grad(value, vectors)
    expected = (vectors + 0.01 * uphill).detach()
    expected = expected / expected.norm(dim=-1, keepdim=True)
    chosen = [min(range(len(weight)), key=lambda i: float((weight[i] - vector).norm())) for vector in expected[0]]
    assert made.batch(0).labels[0].tolist() == chosen


def test_without_the_fault_the_labels_are_shifted_once(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    faulty, plain = (
        catalysts.make("published", model, None, text, length=12, seed=4, steps=0, double_shift=fault)
        for fault in (True, False)
    )
    assert torch.equal(faulty.batch(0).labels, plain.batch(0).labels)
    for made, fault in ((faulty, True), (plain, False)):
        value = float(loss(model, Batch(made.batch(0).labels), double_shift=fault).detach())
        assert abs(made.facts["loss_before"] - value) < 1e-6


def test_the_directions_change_nothing(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    without, searched = (
        catalysts.make("published", model, None, text, length=12, seed=2, steps=3, directions=count) for count in (0, 2)
    )
    assert torch.equal(without.batch(0).labels, searched.batch(0).labels)


def test_nearest_gives_back_the_token_of_an_embedding(model: GPTNeoXForCausalLM) -> None:
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(nearest(protocol.embeddings(model)[ids] + 1e-4, protocol.embeddings(model)), ids)
