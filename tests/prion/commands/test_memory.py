"""``chimera prion memory`` and ``gradients`` as a user types them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib import cli, recorded
from tests.prion import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def chimera(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["prion", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_a_small_model_is_estimated_and_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["memory", "--model", "neox-0.3m", "--device", "cpu", "--steps", 2, "--within", 1]
    status, out, _ = chimera(capsys, *words, "--record", tmp_path / "r.json")
    assert status == 0 and "weights" in out and "within 1 GB by the estimate" in out and "measured in 2 steps" in out
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert metrics["measured"]["value"] is True and metrics["measured_gb"]["value"] >= 0
    assert 0.0005 < metrics["estimated_weights_gb"]["value"] < 0.002 and metrics["within_by_estimate"]["value"] is True


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_large_model_without_a_gpu_is_estimated_only(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = chimera(capsys, "memory", "--record", tmp_path / "r.json")
    assert status == 0 and "2.8b, bf16, full, adafactor" in out and "not measured: no CUDA GPU" in out
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert metrics["measured"]["value"] is False and "measured_gb" not in metrics
    assert metrics["making_catalyst_gb"]["value"] > 24, "eight times the weights in fp32"
    assert "making a near-null catalyst before that: about 88.8 GB" in out
    status, _, err = chimera(capsys, "memory", "--device", "cuda")
    assert status == 2 and "sees no CUDA GPU" in err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_peak_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["memory", "--model", "70m", "--device", "cuda", "--record", tmp_path / "r.json"]
    assert chimera(capsys, *words)[0] == 0
    assert 0.67 < recorded.read(tmp_path / "r.json")["metrics"]["estimated_over_measured"]["value"] < 1.5


def test_gradients_are_compared_and_recorded(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folders = [checkpoints.save(tmp_path / one, one) for one in ("gpt_neox", "llama")]
    words = ["gradients", "--models", ",".join(map(str, folders)), "--record", tmp_path / "r.json"]
    status, out, _ = chimera(capsys, *words)
    assert status == 0 and out.count("largest relative error") == 4 and "4bit: at most" in out
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert metrics["worst_4bit"]["n"] == 16 + 28 and metrics["worst_8bit"]["value"] <= 0.02
    assert metrics["worst_8bit_evaluation_mode"]["value"] > metrics["worst_8bit"]["value"]


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["memory", "--model", "3b"], "unknown model '3b'"),
        (["memory", "--precision", "8bit"], "precision 8bit with tuning full"),
        (["gradients", "--precisions", "fp32", "--models", "neox-0.3m"], "unknown quantised precision 'fp32'"),
        (["gradients", "--models", "3b"], "unknown model '3b'"),
    ):
        status, _, err = chimera(capsys, *words)
        assert status == 2 and message in err and err.count("\n") == 1
