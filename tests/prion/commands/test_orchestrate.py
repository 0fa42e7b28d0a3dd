"""``chimera prion orchestrate``: all runs of a priority, what they leave, and what a kill leaves."""

from __future__ import annotations

import json
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
    assert json.loads((place / "mechanism_summary.json").read_text())["metadata"]["absolute"] is True
    assert (place / "mechanism_comparison.png").is_file()
    assert len((place / "raw_data" / "aggregate_summary_neox-0.3m_fp32.csv").read_text().splitlines()) == 3


def test_a_run_that_diverges_is_recorded_and_the_others_are_analysed(tmp_path: Path) -> None:
    # At this rate Adafactor makes the middle layer infinite in a step, and SGD does not.
    process = start(tmp_path, "--lr", "1e7", "--num-runs", "1")
    said, _ = process.communicate(timeout=300)
    place = tmp_path / "priority3_mechanism"
    raw = place / "raw_data"
    assert process.returncode == 2, said
    assert [path.parent.name for path in raw.glob("*/failed.json")] == ["neox-0.3m_run01_fp32"]
    reason = (raw / "neox-0.3m_run01_fp32" / "failed.json").read_text()
    assert "the model has diverged" in reason and "the others" not in reason and ".partial" not in reason
    assert "the model has diverged" in said.split("failed: adamw run 1")[1]
    content = json.loads((place / "mechanism_summary.json").read_text())
    assert {one["optimizer"]: one["num_runs"] for one in content["summary"]} == {"adamw": 0, "sgd": 1}
    assert len((raw / "aggregate_summary_neox-0.3m_fp32.csv").read_text().splitlines()) == 1
    assert len((raw / "aggregate_summary_neox-0.3m_fp32_sgd.csv").read_text().splitlines()) == 2
