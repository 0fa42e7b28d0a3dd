"""Conversion of whole networks: what is converted, tied and skipped, and what is refused."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from chimera_lib.efficientnet import EfficientNetLite0, SameConv
from chimera_lib.errors import CannotConvert, NothingToConvert, UnknownName
from chimera_lib.ternary import quantizers
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.layers import BitConv2d, BitLinear
from chimera_lib.ternary.quantizers.statistics import by_layer

if TYPE_CHECKING:
    from pathlib import Path

MODES = tuple(quantizers.QUANTIZERS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def llama(tied: bool = False) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 2))


def ternary(model: nn.Module) -> list[str]:
    return list(by_layer(model))


@pytest.mark.parametrize("mode", MODES)
def test_llama_trains_saves_loads_and_predicts_the_same(mode: str, tmp_path: Path) -> None:
    model = convert(llama(), mode=mode).train()
    assert len(ternary(model)) == 2 * 7, "four of attention, three of the feed-forward part, in each block"
    assert type(model.lm_head) is nn.Linear
    tokens = torch.randint(0, 64, (4, 12))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert losses[-1] < 0.9 * losses[0]
    model.eval()
    model.save_pretrained(tmp_path)
    loaded = convert(LlamaForCausalLM(LlamaConfig.from_pretrained(tmp_path)), mode=mode)
    loaded.load_state_dict(load_file(tmp_path / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, model(tokens).logits)


def test_tied_embeddings_stay_tied() -> None:
    for skip in (None, ()):
        model = convert(llama(tied=True), skip=skip)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert isinstance(model.lm_head, BitLinear) == (skip is not None)
        tokens = torch.randint(0, 64, (2, 5))
        model(input_ids=tokens, labels=tokens).loss.backward()
        assert model.lm_head.weight.grad.abs().sum() > 0
        assert len(list(model.parameters())) == len(list(llama(tied=True).parameters()))


def test_efficientnet_with_its_depthwise_convolutions() -> None:
    plain = EfficientNetLite0(size=32, classes=5)
    model = convert(plain, skip=["stem.0", "classifier"])
    layers = by_layer(model)
    assert len(layers) == sum(isinstance(m, nn.Conv2d) for m in plain.modules()) - 1
    depthwise = [m for m in model.modules() if isinstance(m, SameConv) and isinstance(m, BitConv2d)]
    assert len(depthwise) == 16 and all(m.groups == m.in_channels for m in depthwise)
    assert type(model.stem[0]) is SameConv and type(model.classifier) is nn.Linear
    x = torch.rand(4, 3, 32, 32)
    model(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    twin = convert(EfficientNetLite0(size=32, classes=5), skip=["stem.0", "classifier"])
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model.eval()(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_a_copy_is_converted_unless_told_otherwise() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    converted = convert(model)
    assert ternary(model) == [] and ternary(converted) == ["0", "3", "5"]
    assert converted[0].weight is not model[0].weight
    assert all(torch.equal(before[name], converted.state_dict()[name]) for name in before)
    parameters = list(model.parameters())
    assert convert(model, inplace=True) is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True)), "an optimizer's stay the same"


def test_conversion_keeps_the_training_flag_and_options() -> None:
    converted = convert(network().eval(), alpha_target=0.9, per_channel=True, activation=None)
    layer = converted[3]
    assert not layer.training and not layer.quantizer.training and layer.activation is None
    assert layer.quantizer.alpha_target == 0.9 and layer.quantizer.per_channel


def test_shared_layers_stay_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.again = self.first
            self.other = nn.Linear(3, 3)
            self.other.weight = self.first.weight

    model = convert(Twice())
    assert model.first is model.again and isinstance(model.first, BitLinear)
    assert model.other.weight is model.first.weight and model.other is not model.first


def test_a_single_layer() -> None:
    linear = nn.Linear(3, 2)
    assert convert(linear, inplace=True).weight is linear.weight
    assert convert(linear).weight is not linear.weight
    assert type(convert(nn.Conv2d(3, 2, 1))) is BitConv2d


SKIPS = [
    (["0"], ["3", "5"]),
    ("5", ["0", "3"]),
    (["[35]"], ["0"]),
    (lambda name, module: isinstance(module, nn.Conv2d), ["3", "5"]),
    ((), ["0", "3", "5"]),
]


@pytest.mark.parametrize(("skip", "left"), SKIPS, ids=str)
def test_skip(skip: object, left: list[str]) -> None:
    assert ternary(convert(network(), skip=skip)) == left


def test_skip_by_last_part_and_with_all_inside() -> None:
    left = ternary(convert(llama(), skip=["gate_proj", "lm_head"]))
    assert len(left) == 2 * 6 and not [name for name in left if name.endswith("gate_proj")]
    assert ternary(convert(llama(), skip=["model.layers.0", "lm_head"]))[0] == "model.layers.1.self_attn.q_proj"


def test_attention_that_reads_weights_is_refused_and_may_be_skipped() -> None:
    model = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    with pytest.raises(
        CannotConvert, match=r"'self_attn.out_proj': nn.MultiheadAttention .*skip=\['self_attn.out_proj'\]"
    ):
        convert(model)
    converted = convert(model, skip=["self_attn"])
    assert ternary(converted) == ["linear1", "linear2"]


def test_torchs_fused_encoder_does_not_bypass_the_layers() -> None:
    """In eval mode without gradients torch would compute an encoder layer from its weights alone."""
    converted = convert(nn.TransformerEncoderLayer(16, 4, 32, dropout=0, batch_first=True), skip=["self_attn"]).eval()
    x = torch.randn(2, 5, 16)
    expected = converted(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(converted(x), expected)
        converted.activation_relu_or_gelu = 1  # as torch sets it
        assert not torch.allclose(converted(x), expected, atol=1e-2), "this is what it would do"


class Direct(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight)


def test_refusals_name_the_layer_and_the_way_out() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Direct(3, 3))
    with pytest.raises(CannotConvert, match=r"layer '1' \(Direct\): .*super\(\).*skip=\['1'\]"):
        convert(model, inplace=True)
    assert ternary(model) == [], "nothing is changed where something is refused"
    assert ternary(convert(model, skip=["1"])) == ["0"]


def test_nothing_to_convert() -> None:
    with pytest.raises(NothingToConvert, match=r"LayerNorm has no nn.Linear or nn.Conv2d layer"):
        convert(nn.LayerNorm(3))
    with pytest.raises(NothingToConvert, match="every one of the 3 layers of Sequential is ternary already"):
        convert(convert(network()))
    with pytest.raises(NothingToConvert, match=r"every one of the 3 layers of Sequential is skipped \(skip=\['\*'\]\)"):
        convert(network(), skip=["*"])
    with pytest.raises(NothingToConvert, match=r"skip='fc' fits no module of Sequential; its layers: 0, 3, 5"):
        convert(network(), skip=["fc"])


def test_what_is_left_of_a_converted_network_may_be_converted() -> None:
    once = convert(network(), skip=["0"])
    twice = convert(once, mode="ttq")
    assert type(twice[0].quantizer) is quantizers.QUANTIZERS["ttq"]
    assert type(twice[3].quantizer) is quantizers.QUANTIZERS["chimera"]


def test_bad_names() -> None:
    with pytest.raises(UnknownName, match="quantizer mode 'ternary'"):
        convert(network(), mode="ternary")
    with pytest.raises(UnknownName, match="activation quantizer 'int4'"):
        convert(network(), activation="int4")
    with pytest.raises(TypeError, match="mode 'chimera' has no option 'alpha'"):
        convert(network(), alpha=0.7)
    with pytest.raises(ValueError, match=r"alpha_target=-1: expected"):
        convert(network(), alpha_target=-1)
