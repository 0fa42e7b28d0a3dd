"""The tables of the notebook on packed weights, on small networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import example, matvec, report
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.export import BadPackedFile
from chimera_lib.ternary.packed.layers import pack
from chimera_lib.ternary.resnet import ChimeraResNet20

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def eager() -> object:
    matvec.use_eager("these tests are of tables")
    yield
    matvec.use_eager()


@pytest.fixture(scope="module")
def network() -> ChimeraResNet20:
    torch.manual_seed(0)
    model = ChimeraResNet20("chimera", width=4)
    model(example.as_input(IMAGES))  # statistics of batch norm, and a scale
    return model.eval()


def test_accuracy_counts_the_right_answers(network: ChimeraResNet20) -> None:
    labels = example.logits(network, IMAGES, batch=5).argmax(1).numpy()
    labels[:3] = (labels[:3] + 1) % 10
    (row,) = report.accuracy({"net": network}, IMAGES, labels)
    assert row["network"] == "net" and row["accuracy"] == 9 / 12 and row["from"] < 9 / 12 < row["to"]


def test_codecs_are_exact_and_refuse_what_means_nothing() -> None:
    two, five = report.codecs(torch.Generator().manual_seed(0))
    assert two == {
        "codec": "2bit", "bits a weight": 2.0, "exact": True, "bytes with a meaning": 81, "bytes refused": 175
    }  # fmt: skip
    assert five["bytes with a meaning"] == 243 and five["bytes refused"] == 13 and five["exact"]


def test_storage_says_what_the_packed_layers_and_the_whole_take(network: ChimeraResNet20) -> None:
    packed = {name: pack(network, codec=name) for name in CODECS}
    plain = ChimeraResNet20("fp32_baseline", width=4)
    two, five = report.storage(plain, packed)
    weights = sum(p.numel() for n, p in plain.named_parameters() if n.startswith("blocks") and p.dim() == 4)
    assert two["packed layers, bytes"] == weights // 4 + 4 * 18  # every layer's weights are a multiple of four
    assert 16 > two["times smaller"] > two["whole, times smaller"] > 1
    assert five["whole network, bytes"] < two["whole network, bytes"]


def test_answers_are_near_and_a_wrong_scale_would_show() -> None:
    torch.manual_seed(0)
    layer = BitLinear(64, 32, bias=False, mode="strict_bitnet").eval()
    x = torch.randn(5, 64)
    for row in report.answers(layer, x):
        assert row["packed to fake-quantised"] < 1e-6 and row["packed to float64"] < 1e-6
    off = BitLinear(64, 32, bias=False, mode="strict_bitnet").eval()
    off.weight.data = layer.weight.data.clone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.PackedBitLinear, "from_layer", lambda *_args, **_options: lambda y: 1.01 * layer(y))
        assert report.answers(off, x)[0]["packed to fake-quantised"] == pytest.approx(0.01, rel=1e-3)


def test_a_file_gives_the_same_predictions_and_another_network_refuses_it(network: ChimeraResNet20) -> None:
    expected = example.logits(network, IMAGES).argmax(1)
    packed = {"2bit": pack(network)}
    (row,) = report.through_a_file(packed, lambda: ChimeraResNet20("chimera", width=4), IMAGES, expected)
    assert row["same predictions"] == row["of"] == 12 and row["file, bytes"] > 10_000
    (row,) = report.through_a_file(packed, lambda: ChimeraResNet20("chimera", width=4), IMAGES, (expected + 1) % 10)
    assert row["same predictions"] == 0
    with pytest.raises(BadPackedFile, match=r"of weight \(4, 4, 3, 3\) called 'blocks\.0\.conv1', which is \(8, 8"):
        report.through_a_file(packed, lambda: ChimeraResNet20("chimera", width=8), IMAGES, expected)


def test_speed_is_the_median_ratio_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"fp32": np.array([1.0, 4.0, 9.0]), "2bit": np.array([0.5, 1.0, 9.0])}
    monkeypatch.setattr(report.contenders, "timed", lambda *_: seconds)
    found = report.speed({}, torch.zeros(1), 3, 0, 2)
    assert found["fp32"]["value"] == 1 and found["2bit"]["value"] == 2
    assert found["2bit"]["ci"][0] <= 2 <= found["2bit"]["ci"][1]
