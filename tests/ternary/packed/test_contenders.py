"""Contenders answer alike, and are timed in turns."""

from __future__ import annotations

import sys

import pytest
import torch

from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import contenders, matvec


@pytest.fixture
def layer() -> BitLinear:
    torch.manual_seed(0)
    return BitLinear(32, 24, bias=False, mode="strict_bitnet").eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what torch deprecates
def test_every_contender_gives_the_layers_answer(layer: BitLinear) -> None:
    made, left_out = contenders.contenders(layer, compiled=False)
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = layer(x)
        for name, call in made.items():
            answer = call(x).float()
            if name == "2bit, float activations":  # a layer of the same codes, but with a scale of its own
                answer *= expected.norm() / answer.norm()
            error = (answer - expected).abs().max() / expected.abs().max()
            assert error < (1e-6 if name.startswith(("2bit", "base3")) and "float" not in name else 0.05), name
    assert set(made) | set(left_out) >= {"fp32", "bf16", "fake-quantised", *contenders.PEERS}


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason(
    layer: BitLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    monkeypatch.setattr(matvec, "can_compile", lambda: False)
    made, left_out = contenders.contenders(layer, compiled=False)
    assert not set(contenders.PEERS) & set(made)
    assert left_out["torchao int8"].startswith("torchao: ")
    assert "transformers' BitLinear" in left_out["transformers BitLinear"]


def test_contenders_take_turns_and_a_turn_is_its_shortest_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = [0.0], []

    def takes(name: str, seconds: list[float]) -> object:
        def call(x: torch.Tensor) -> torch.Tensor:
            called.append(name)
            if len(called) > 6:  # behind the warm-up
                now[0] += seconds.pop(0)
            return x

        return call

    monkeypatch.setattr(contenders.time, "perf_counter", lambda: now[0])
    made = {"fp32": takes("fp32", [1.0, 3.0, 2.0, 5.0]), "2bit": takes("2bit", [0.5, 0.25, 4.0, 1.0])}
    seconds = contenders.timed(made, torch.zeros(1), turns=2, seed=0, rounds=2)
    assert {name: values.tolist() for name, values in seconds.items()} == {"fp32": [1.0, 2.0], "2bit": [0.25, 1.0]}
    pairs = [set(called[i : i + 2]) for i in range(6, len(called), 2)]
    assert len(pairs) == 4 and all(pair == {"fp32", "2bit"} for pair in pairs)
