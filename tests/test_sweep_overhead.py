"""The benchmark of a sweep's overhead, in miniature: it times both, records both, and refuses what it cannot time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chimera_lib import recorded

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "sweep_overhead.py"


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, timeout=500)


@pytest.mark.parametrize(("kind", "peer"), [("command", "a bare subprocess"), ("notebook", "papermill alone")])
def test_a_miniature_prints_and_records_the_overhead_and_the_peer(kind: str, peer: str, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    words = ["--kinds", kind, "--engines", "local", f"--{kind}s", "1", "--peer-cells", "2"]
    done = call(*words, "--record", str(record))
    assert done.returncode == 0, done.stderr
    assert f"{kind}s; {peer}:" in done.stdout
    metrics = recorded.read(record)["metrics"]
    assert metrics[f"{kind}_peer_seconds"]["value"] > 0 and metrics[f"{kind}_peer_seconds"]["n"] == 2
    ratio = metrics[f"{kind}_local_1_ratio"]
    assert 0 < ratio["ci"][0] <= ratio["value"] <= ratio["ci"][1]
    assert f"{kind}_local_1_overhead_seconds" in metrics


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--notebooks", "0"], "0: expected a whole number from 1 to 10000"),
        (["--engines", "dask"], "invalid choice: 'dask'"),
        (["--record", "/"], "/: expected a file to write"),
    ],
)
def test_what_cannot_be_timed_is_refused(words: list[str], said: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
