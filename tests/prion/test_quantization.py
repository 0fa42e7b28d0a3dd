"""Gradients through 8-bit and 4-bit weights are those of the dequantised weights; the trap of some processors."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from chimera_lib.errors import UnknownName
from chimera_lib.prion import models, quantization
from chimera_lib.prion.gradient_agreement import gradient_agreement, reference
from tests.prion import checkpoints

BAR = 0.02
ARCHITECTURES = ("gpt_neox", "llama")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("llama"), "llama")


def has_avx512_bf16() -> bool:
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and "avx512_bf16" in cpu.read_text()


@pytest.mark.parametrize("precision", quantization.QUANTISED)
def test_gradients_are_those_of_the_dequantised_weights(folder: Path, precision: str) -> None:
    found = gradient_agreement(str(folder), precision)
    assert len(found.before) == len(found.after) == (2 * 2 * 4 if "gpt_neox" in str(folder) else 2 * 2 * 7)
    assert max(found.before.values()) <= BAR
    assert max(found.after.values()) <= BAR  # a forward pass without gradients lies between
    assert found.worst == max(*found.before.values(), *found.after.values())
    if precision == "4bit":
        assert max(found.evaluation.values()) <= BAR
    assert f"{precision}, largest relative error of {len(found.before)} gradients: " in found.text()


def test_another_weight_is_told_apart(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = quantization.dequantised
    monkeypatch.setattr(quantization, "dequantised", lambda layer: 1.05 * whole(layer))
    assert gradient_agreement(str(llama), "4bit").worst > BAR


def test_nf4_gradients_survive_a_forward_without_grad(llama: Path) -> None:
    loaded = models.load(str(llama), precision="4bit", tuning="lora")
    layers = quantization.layers(loaded.model).values()
    assert len(layers) == 14 and not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert max(gradient_agreement(str(llama), "4bit").after.values()) <= BAR


@pytest.mark.skipif(not has_avx512_bf16(), reason="the processor has no avx512_bf16")
def test_without_the_guard_nf4_gradients_are_wrong(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "keep_differentiable", lambda model: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch tells that the packed kernel has no derivative
        found = gradient_agreement(str(llama), "4bit")
        again = gradient_agreement(str(llama), "4bit", guard=False)
    assert max(found.before.values()) <= BAR < 0.5 < max(found.after.values())
    assert found.after == again.after


@pytest.mark.skipif(not has_avx512_bf16(), reason="the processor has no avx512_bf16")
def test_without_the_guard_a_model_with_biases_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in-place operation"):
        gradient_agreement(str(checkpoints.save(tmp_path, "gpt_neox")), "4bit", guard=False)


@pytest.mark.parametrize("precision", quantization.QUANTISED)
def test_weights_are_near_what_they_were(folder: Path, precision: str) -> None:
    model = models.load(str(folder), precision=precision, tuning="lora").model
    plain = models.load(str(folder), tuning="lora").model
    # Half of the widest gap between levels, as a share of a row's largest weight; int8 is rounded in fp16, so .6.
    share = {"8bit": 0.6 / 127, "4bit": 0.17}[precision]
    for name, layer in quantization.layers(model).items():
        weight = plain.get_submodule(name).weight
        error = (quantization.dequantised(layer) - weight).abs()
        assert error.max() > 0 and bool((error <= share * weight.abs().amax(1, keepdim=True)).all()), name
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters() if parameter.requires_grad)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        ours, theirs = model(input_ids=tokens).logits, reference(model, plain)(input_ids=tokens).logits
    assert (ours - theirs).norm() / theirs.norm() < 0.02


def test_an_unknown_precision_is_refused(llama: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown quantised precision 'fp32'.*known: 8bit, 4bit"):
        gradient_agreement(str(llama), "fp32")
