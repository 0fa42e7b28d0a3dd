"""The loss in pieces is the plain loss: value and gradient, whole and with adapters, with what the head is tied to."""

from __future__ import annotations

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches, chunked_loss, lora

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 40}


def model(architecture: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if architecture == "llama":
        config = LlamaConfig(**SIZES, tie_word_embeddings=True, attn_implementation="eager", bos_token_id=0)
        return LlamaForCausalLM(config).double()
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, attn_implementation="eager", bos_token_id=0)).double()


def gradients(net: torch.nn.Module, value: torch.Tensor) -> dict[str, torch.Tensor]:
    trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    return dict(zip(trained, torch.autograd.grad(value, list(trained.values())), strict=True))


@pytest.mark.parametrize("double_shift", [False, True])
@pytest.mark.parametrize("positions", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["neox", "llama", "adapters", "embeddings"])
def test_value_and_gradient_are_those_of_the_plain_loss(kind: str, positions: int, double_shift: bool) -> None:
    net = model("llama" if kind == "llama" else "neox")
    if kind == "adapters":
        net = lora.attach(net, rank=2)
        for name, parameter in net.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(1))
    vectors = torch.randn(3, 9, 16, dtype=torch.float64) if kind == "embeddings" else None
    batch = batches.Batch(tokens, vectors)
    plain = batches.loss(net, batch, double_shift=double_shift)
    pieces = chunked_loss.loss(net, batch, positions=positions, double_shift=double_shift)
    # the loss itself is computed in fp32
    torch.testing.assert_close(pieces, plain, rtol=2e-6, atol=0)
    if kind == "embeddings":  # which leave the model's own embeddings out
        net.get_input_embeddings().requires_grad_(False)
    wanted, found = gradients(net, plain), gradients(net, pieces)
    for name, exact in wanted.items():
        torch.testing.assert_close(found[name], exact, rtol=1e-4, atol=1e-7, msg=name)


def test_the_output_layer_sees_a_piece_at_a_time() -> None:
    net, seen = model("neox"), []
    net.get_output_embeddings().register_forward_hook(lambda _layer, given, _out: seen.append(given[0].shape[0]))
    tokens = torch.zeros((2, 11), dtype=torch.long)
    chunked_loss.loss(net, batches.Batch(tokens), positions=8).backward()
    assert sorted(seen) == [4, 4, 8, 8, 8, 8]  # 20 positions, forwards and again backwards


def test_no_positions_at_a_time_is_refused() -> None:
    with pytest.raises(ChimeraError, match="positions 0: expected at least 1"):
        chunked_loss.loss(model("neox"), batches.Batch(torch.zeros((1, 4), dtype=torch.long)), positions=0)
