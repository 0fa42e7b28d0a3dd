"""``chimera ternary compare-quant-modes`` as a user types it: what it writes and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimera_lib import cli, recorded
from chimera_lib.ternary.experiments import log

if TYPE_CHECKING:
    from pathlib import Path


def chimera(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["ternary", "compare-quant-modes", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_the_published_command_logs_and_records(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [
        "--steps",
        8,
        "--seeds",
        3,
        "--log-jsonl",
        tmp_path / "outputs" / "log.jsonl",
        "--record",
        tmp_path / "r.json",
    ]
    status, out, _ = chimera(capsys, *words)
    assert status == 0
    records = log.read(tmp_path / "outputs" / "log.jsonl")
    assert len(records) == 13 * 3 * (8 + 2)
    assert all(tuple(record) == log.BASE for record in records)
    assert {r["script"] for r in records} == {"compare-quant-modes"} and len({r["run_id"] for r in records}) == 1
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert metrics["chimera_minus_strict_bitnet_accuracy"]["n"] == 3
    assert metrics["chimera_as_published_parameters_with_gradient"] == {"value": 2, "n": 4}
    assert f"{metrics['chimera_accuracy']['value']:.3f}" in out
    assert "chimera - chimera_as_published" in out and "entropy" in out


def test_modes_scales_and_activations_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--modes",
        "chimera,fp32_baseline",
        "--scale",
        "optimal",
        "--activation",
        "none",
        "--learning-rate",
        "0.01,0.02",
    ]
    status, out, _ = chimera(capsys, "--steps", 2, "--seeds", 1, "--target-bits", 1.32, *words)
    assert status == 0
    assert "chimera_optimal_fp32_activation: 1 seeds, learning rate 0.0" in out
    assert "as_published" not in out and "no interval from one seed" in out


BAD = [
    (["--alpha-target", "-1"], "-1.0; expected at least 0"),
    (["--alpha-target", "nan"], "expected at least 0"),
    (["--alpha-target", "inf"], "--alpha-target inf: expected a threshold from 0 to"),
    (["--target-bits", "1.6"], "--target-bits 1.6: expected more than 0 and at most log2 3"),
    (["--target-bits", "0"], "--target-bits 0.0: expected more than 0"),
    (["--target-bits", "nan"], "--target-bits nan"),
    (["--alpha-target", "0.5", "--target-bits", "1.3"], "expected one of them"),
    (["--steps", "0"], "expected at least 1"),
    (["--seeds", "0"], "expected 1 to 1000"),
    (["--modes", "chimaera"], "unknown mode 'chimaera' (did you mean 'chimera'?)"),
    (["--modes", ","], "--modes ',': expected different names"),
    (["--modes", "ttq,ttq"], "expected different names"),
    (["--scale", "twn"], "unknown scale 'twn'; known: gamma, optimal"),
    (["--activation", "int4"], "unknown activation 'int4'"),
    (["--learning-rate", "0"], "--learning-rate '0': expected numbers above 0"),
    (["--learning-rate", "0.1,fast"], "--learning-rate 'fast'"),
    (["--learning-rate", "-inf"], "--learning-rate '-inf'"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda one: " ".join(one) if isinstance(one, list) else "")
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    status, out, err = chimera(capsys, *words)
    assert status == 2 and out == ""
    assert said in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("option", ["--log-jsonl", "--record"])
def test_a_file_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    words = ["--modes", "fp32_baseline", "--steps", 1, "--seeds", 1, option, tmp_path / "file" / "inside"]
    status, _, err = chimera(capsys, *words)
    assert status == 2 and "file" in err and err.count("\n") == 1
