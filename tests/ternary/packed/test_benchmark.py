"""The benchmark of packed layers runs in miniature, records what it prints, and refuses what it cannot measure."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "ternary_packed.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("benchmark_of_packed_layers", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # as when it is run
        spec.loader.exec_module(module)
        yield module


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_tiny_run_prints_and_records_ratios(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    done = call("--size", "64", "--batch", "8", "--turns", "3", "--record", str(record))
    assert done.returncode == 0, done.stderr
    for title in ("vector of 64", "batch of 8 x 64", "times smaller than fp32", "left out"):
        assert title in done.stdout
    content = recorded.read(record)
    metrics = content["metrics"]
    assert content["backends"]["packed"]["kernel"] in {"compiled", "eager"}
    for name in ("vector_bf16", "vector_2bit", "batch_base3", "batch_2bit_kept_unpacked", "batch_fake_quantised"):
        ratio = metrics[f"{name}_over_fp32"]
        assert ratio["n"] == 3 and ratio["ci"][0] <= ratio["value"] <= ratio["ci"][1]
    assert metrics["batch_fp32_over_fp32"]["value"] == 1
    assert metrics["2bit_times_smaller"]["value"] == pytest.approx(4 * 64 * 64 / (64 * 16 + 4))
    assert metrics["2bit_from_float64"]["value"] < 1e-6 > metrics["base3_from_fake"]["value"]


def test_a_speed_up_is_the_median_of_ratios_within_turns(script: ModuleType) -> None:
    seconds = {"fp32": np.array([1.0, 4.0, 9.0]), "2bit": np.array([0.5, 1.0, 9.0])}
    lines, metrics = script.speed("vector of 4096", seconds)
    assert metrics["vector_2bit_over_fp32"]["value"] == 2.0  # of 2, 4 and 1
    assert metrics["vector_2bit_over_fp32_shortest"]["value"] == 2.0
    assert "1.5 met" in lines[-1]
    slow, _ = script.speed("batch of 128 x 4096", seconds)
    assert "3.0 NOT met" in slow[-1]
    other, _ = script.speed("vector of 64", seconds)  # the bars are of one size
    assert "met" not in other[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "15"], "15: expected a whole number from 16 to 16384"),
        (["--turns", "1"], "1: expected a whole number from 2 to 10000"),
        (["--batch", "all"], "all: expected a whole number from 2 to 4096"),
    ],
)
def test_bad_input_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        script.arguments(words)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_a_size_that_a_peer_cannot_take_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.ChimeraError, match="--size 18: expected a multiple of 4"):
        script.run(script.arguments(["--size", "18"]))
