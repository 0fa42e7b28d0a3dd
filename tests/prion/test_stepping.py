"""A step inside the backward pass leaves the same weights as one after it, and hardly any gradients meanwhile."""

from __future__ import annotations

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches, chunked_loss, optimizers
from chimera_lib.prion.stepping import StepInBackward

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}


def model(architecture: str = "neox", *, checkpointing: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    if architecture == "tied llama":
        config = LlamaConfig(**SIZES, tie_word_embeddings=True, attn_implementation="eager")
        net: torch.nn.Module = LlamaForCausalLM(config)
    else:
        net = GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, attn_implementation="eager"))
    if checkpointing:
        net.activation_checkpointing_enable({"use_reentrant": False})
    return net.train()


def shown() -> batches.Batch:
    return batches.Batch(torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("architecture", ["neox", "tied llama"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", optimizers.NAMES)
def test_the_weights_are_those_of_the_plain_loop(name: str, checkpointing: bool, architecture: str) -> None:
    plain, ours = model(architecture), model(architecture, checkpointing=checkpointing)
    start = [parameter.detach().clone() for parameter in plain.parameters()]
    stepper = optimizers.build(name, plain.parameters(), 1e-2)
    with StepInBackward(ours.parameters(), lambda p: optimizers.build(name, [p], 1e-2)):
        for _ in range(3):
            batches.loss(plain, shown()).backward()
            stepper.step()
            stepper.zero_grad()
            chunked_loss.loss(ours, shown(), positions=5).backward()
    moved = [(after.detach() - before).norm() for after, before in zip(plain.parameters(), start, strict=True)]
    assert sum(float(length) > 0 for length in moved) > 0.9 * len(moved)
    for wanted, found in zip(plain.parameters(), ours.parameters(), strict=True):
        if wanted.ndim == 1:
            continue  # the gradient of the keys' bias is zero but for rounding, which adaptive optimizers blow up
        # AdamW's first steps have the size of the rate whatever the gradient: rounding can turn entries near zero
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3 if name.startswith("ada") else 2e-4)


def test_bit_by_bit_where_the_gradients_are_the_same() -> None:
    plain, ours = model(), model()
    stepper = torch.optim.AdamW(plain.parameters(), lr=1e-2, foreach=False)
    with StepInBackward(ours.parameters(), lambda p: torch.optim.AdamW([p], lr=1e-2, foreach=False)):
        for _ in range(3):
            batches.loss(plain, shown()).backward()
            stepper.step()
            stepper.zero_grad()
            batches.loss(ours, shown()).backward()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), ours.parameters(), strict=True))


def test_few_gradients_exist_at_a_time() -> None:
    net = model()
    held: list[int] = []
    for parameter in net.parameters():
        parameter.register_post_accumulate_grad_hook(
            lambda _: held.append(sum(one.grad is not None for one in net.parameters()))
        )
    with StepInBackward(net.parameters(), lambda p: torch.optim.SGD([p], lr=1e-2)):
        batches.loss(net, shown()).backward()
    count = len(list(net.parameters()))
    assert len(held) == count and max(held) <= 3
    assert all(parameter.grad is None for parameter in net.parameters())
    held.clear()
    batches.loss(net, shown()).backward()  # the hooks are gone: gradients stay
    assert max(held) == count


def test_what_cannot_train_is_refused() -> None:
    net = model()
    batches.loss(net, shown()).backward()
    with pytest.raises(ChimeraError, match=r"holds a gradient of an earlier backward pass: model.zero_grad\(\) first"):
        StepInBackward(net.parameters(), lambda p: torch.optim.SGD([p], lr=1.0))
    with pytest.raises(ChimeraError, match="no trainable parameter"):
        StepInBackward(net.requires_grad_(False).parameters(), lambda p: torch.optim.SGD([p], lr=1.0))
