"""``chimera prion orchestrate``: all runs of a priority, what they leave, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
WORDS = (
    "prion", "orchestrate", "--priority", "3", "--model", "neox-0.3m", "--num-runs", "2", "--steps", "2", "--arm",
    "as_published", "--jobs", "2",
)  # fmt: skip


def start(output: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "chimera_lib.cli", *WORDS, "--output-dir", str(output), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def test_a_killed_orchestration_goes_on_and_ends_in_an_analysis(tmp_path: Path) -> None:
    place = tmp_path / "priority3_mechanism"
    first = start(tmp_path)
    until = time.monotonic() + 180
    while not list((place / ".sweep" / "runs").glob("prion/run/*/environment.json")):
        assert time.monotonic() < until, "no run was finished"
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    finished = {path: path.stat().st_mtime for path in (place / ".sweep" / "runs").glob("prion/run/*/environment.json")}
    said, _ = (second := start(tmp_path)).communicate(timeout=300)
    assert second.returncode == 0, said
    assert "reused" in said
    assert all(path.stat().st_mtime == when for path, when in finished.items())
    runs = sorted(path.name for path in (place / "raw_data").iterdir() if path.is_dir())
    assert runs == [
        "neox-0.3m_run01_fp32",
        "neox-0.3m_run01_fp32_sgd",
        "neox-0.3m_run02_fp32",
        "neox-0.3m_run02_fp32_sgd",
    ]
    assert (place / "mechanism_summary.json").is_file()
    assert (place / "mechanism_comparison.png").is_file()
    assert len((place / "raw_data" / "aggregate_summary_neox-0.3m_fp32.csv").read_text().splitlines()) == 3


def test_a_run_that_diverges_is_recorded_and_the_others_are_analysed(tmp_path: Path) -> None:
    process = start(tmp_path, "--lr", "1e30", "--steps", "6")
    said, _ = process.communicate(timeout=300)
    raw = tmp_path / "priority3_mechanism" / "raw_data"
    failed = sorted(path.parent.name for path in raw.glob("*/failed.json"))
    assert process.returncode == 2, said
    assert "neox-0.3m_run01_fp32_sgd" in failed
    assert "the model has diverged" in (raw / "neox-0.3m_run01_fp32_sgd" / "failed.json").read_text()
