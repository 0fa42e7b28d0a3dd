"""The verbs that train, as a user types them: what they write, what they refuse, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from chimera_lib import cli, recorded
from chimera_lib.ternary.experiments import log

if TYPE_CHECKING:
    from pathlib import Path

TINY = ["--synthetic", "--epochs", "2", "--batch-size", "16", "--max-batches", "1", "--eval-max-batches", "1"]


def chimera(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["ternary", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_published_command_trains_logs_and_records(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*TINY, "--controller-affects", "alpha_override", "--log-jsonl", tmp_path / "log.jsonl"]
    status, out, _ = chimera(capsys, "train-resnet", *words, "--record", tmp_path / "r.json")
    assert status == 0 and "epoch 2/2" in out and "synthetic test accuracy" in out
    kinds = [record["record_type"] for record in log.read(tmp_path / "log.jsonl")]
    assert kinds == ["batch", "epoch", "eval"] * 2 + ["final", "summary"]
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert f"{metrics['accuracy']['value']:.1%}" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "r.json"]


def test_a_second_run_goes_on_from_its_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*TINY, "--save-checkpoint", tmp_path / "c.safetensors"]
    assert chimera(capsys, "train-resnet", *words)[0] == 0
    status, out, _ = chimera(capsys, "train-resnet", *words)
    assert status == 0 and "holds 2 of 2 epochs" in out
    status, _, err = chimera(capsys, "train-resnet", *words, "--seed", 1)
    assert status == 2 and "seed 0, now 1" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--learning-rate", "-1"], "learning rate -1"),
        (["--mode", "int4"], "unknown mode 'int4'"),
        (["--optimizer", "chimera"], "did you mean 'chimera21'"),
        (["--alpha-target", "-0.5"], "alpha_target=-0.5"),
        (["--target-bits", "1.7"], "log2 3"),
        (["--epochs", "0"], "expected at least 1"),
        (["--batch-size", "9999"], "there are 512 training images"),
        (["--device", "tpu"], "unknown device"),
        (["--dataset-root", "/nowhere"], "--synthetic needs no data"),
        (["--log-jsonl", "/proc/none/log.jsonl"], "name a file that can be written"),
        (["--colour", "red"], "--colour"),
        (["--threads", "100000"], "expected 1 to 256"),
        (["--mode", "ttq", "--alpha-target", "0.5"], "--alpha-target is an option of chimera, and --mode is ttq"),
        (["--mode", "fp32_baseline", "--controller", "one-shot"], "--controller is an option of chimera"),
        (["--mode", "lsq", "--scale", "optimal"], "--scale is an option of chimera and strict_bitnet"),
        (["--save-checkpoint", "/proc/version/c.safetensors"], "is no folder"),
        (["--record", "/"], "is a folder; expected a file"),
        (["--learning-rate", "1e30", "--optimizer", "adamw", "--mode", "fp32_baseline"], "lower --learning-rate"),
    ],
)
def test_bad_words_get_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    status, _, err = chimera(capsys, "train-resnet", *TINY, *words)
    assert status == 2 and said in err and err.count("\n") == 1


def test_missing_data_is_named_and_not_downloaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = chimera(capsys, "train-resnet", "--dataset-root", tmp_path / "none")
    assert status == 2 and "no such folder" in err
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "empty"))
    status, _, err = chimera(capsys, "train-resnet")
    assert status == 2 and "chimera data fetch cifar10" in err and err.count("\n") == 1


def test_the_ablation_prints_cells_and_effects(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--synthetic", "--batch-size", 16, "--max-batches", 1, "--eval-max-batches", 1, "--seeds", 2]
    words += ["--optimizers", "adamw,chimera21", "--learning-rate", 0.01, "--output", tmp_path / "rows"]
    status, out, _ = chimera(capsys, "cifar-ablation", *words, "--record", tmp_path / "r.json")
    assert status == 0 and "mode: chimera against fp32_baseline" in out
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert metrics["runs"]["value"] == 24 and metrics["chimera21_effect"]["n"] == 2
    assert len((tmp_path / "rows" / "cells.jsonl").read_text().splitlines()) == 25


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optimizers", "adamw,adamw"], "different names"),
        (["--optimizers", "adam"], "unknown optimizer"),
        (["--modes", "fp32"], "unknown mode"),
        (["--activations", "int4"], "unknown activation quantizer"),
        (["--seeds", "0"], "expected 1 to 1000"),
        (["--learning-rate", "0"], "learning rate 0"),
        (["--seeds", "1001"], "expected 1 to 1000"),
        (["--output", "/proc/version"], "is no folder"),
    ],
)
def test_bad_designs_are_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], said: str
) -> None:
    status, _, err = chimera(capsys, "cifar-ablation", "--synthetic", "--output", tmp_path / "rows", *words)
    assert status == 2 and said in err and err.count("\n") == 1
    assert not (tmp_path / "rows").exists()


def test_a_kill_leaves_a_checkpoint_that_is_gone_on_from(tmp_path: Path) -> None:
    place = tmp_path / "c.safetensors"
    words = [sys.executable, "-m", "chimera_lib.cli", "ternary", "train-resnet", "--synthetic", "--epochs", "40"]
    words += ["--batch-size", "16", "--max-batches", "1", "--eval-max-batches", "1", "--eval-batch-size", "16"]
    words += ["--save-checkpoint", str(place), "--log-jsonl", str(tmp_path / "log.jsonl")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 120
    while not place.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of 40 epochs: going on from there" in done.stdout and "epoch 40/40" in done.stdout
    records = log.read(tmp_path / "log.jsonl")
    assert len({record["run_id"] for record in records}) == 2
    assert [json.dumps(r) for r in records if r["record_type"] == "final"]


def test_clean_lists_and_then_deletes_what_was_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    chimera(capsys, "train-resnet", *TINY, "--log-jsonl", out / "a" / "log.jsonl", "--save-checkpoint", out / "c.safetensors")  # fmt: skip  # noqa: E501
    (out / "mine.txt").write_text("keep")
    status, said, _ = chimera(capsys, "clean", out)
    assert status == 0 and "2 found" in said and (out / "c.safetensors").exists()
    status, said, _ = chimera(capsys, "clean", out, "--yes")
    assert status == 0 and "2 deleted" in said
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    status, _, err = chimera(capsys, "clean", tmp_path / "none")
    assert status == 2 and "no such folder" in err
