"""Worker processes: how they start, answer, fail and end, without harm to the parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib.errors import BackendDied, BackendUnavailable, ChimeraError
from chimera_lib.images import executor
from chimera_lib.images.backends import pool, registry
from chimera_lib.images.backends.pool import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.images.backends.registry import Backend
    from chimera_lib.images.network import Network


def test_a_missing_interpreter_is_named(small_network: Network) -> None:
    backend = registry.Backend("other", "x", interpreter=Path("/no/python"))
    with pytest.raises(BackendUnavailable, match="other: cannot run /no/python"):
        Worker(backend, small_network).start()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "killed by SIGILL"),
        ("os.write(2, b'kernel table is torn\\n'); os.abort()", r"killed by SIGABRT \(kernel table is torn\)"),
        ("raise ValueError('no\\nsuch core')", "ValueError: no such core"),
        ("time.sleep(60)", "no answer in 1 s"),
        ("sys.exit(7)", "NameError|status 7"),
    ],
)
def test_a_backend_that_cannot_start_says_why(
    small_network: Network, scripted: Callable[..., Backend], statement: str, reason: str
) -> None:
    worker = Worker(scripted("bad", start=statement), small_network, start_timeout=1.0)
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match=f"^bad: .*({reason})") as caught:
        worker.start()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10
    assert worker.process is not None and worker.process.returncode is not None, "nothing may be left running"


def test_what_a_library_prints_does_not_reach_the_protocol(
    small_network: Network, pictures: np.ndarray, scripted: Callable[..., Backend]
) -> None:
    chatter = "print('x' * 100000); os.write(1, b'\\0\\0\\0\\1'); ctypes.CDLL(None).puts(b'from C')"
    with Worker(scripted("loud", predict=chatter, start=chatter), small_network) as worker:
        logits = worker.predict(pictures)
    run = executor.Executor(small_network.program, small_network.arrays, lambda a, b, out: np.matmul(a, b, out=out))
    np.testing.assert_allclose(logits, [run.predict(picture) for picture in pictures], atol=1e-4)


def test_an_interrupted_question_is_not_answered_later(
    small_network: Network, pictures: np.ndarray, scripted: Callable[..., Backend]
) -> None:
    with Worker(scripted("slow", predict="time.sleep(0.05)"), small_network) as worker:
        expected = worker.predict(pictures[5:6])
        worker.send(pictures[:4])  # and then the user presses Ctrl-C, which the worker gets too
        assert worker.process is not None
        worker.process.send_signal(signal.SIGINT)
        np.testing.assert_array_equal(worker.predict(pictures[5:6]), expected)


def gone(pid: int, seconds: float) -> bool:
    """Whether a process ends (or is only a zombie) within some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if re.search(r"\) [ZX] ", Path(f"/proc/{pid}/stat").read_text()):
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("action", ["time.sleep(120)", "\n        while True: pass"])
def test_a_worker_dies_with_its_parent(
    small_network: Network, scripted: Callable[..., Backend], tmp_path: Path, action: str
) -> None:
    """The parent is killed with kill -9 while its worker is in the middle of an image."""
    small_network.save(tmp_path / "n.npz")
    backend = scripted("busy", predict=action)
    code = f"""
import numpy as np
from pathlib import Path
from chimera_lib.images import network
from chimera_lib.images.backends.pool import Worker
from chimera_lib.images.backends.registry import Backend
worker = Worker(Backend("busy", "x", Path({str(backend.runner)!r})), network.load(Path({str(tmp_path / "n.npz")!r})))
worker.start()
worker.send(np.zeros((1, 32, 32, 3), np.uint8))
print(worker.process.pid, flush=True)
worker.receive()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    try:
        assert gone(pid, 10)
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGKILL)


def test_closing_leaves_no_process_and_no_file(
    small_network: Network, pictures: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Worker("openblas", small_network) as worker:
        assert not list(tmp_path.iterdir()), "the network's file is gone once it is loaded"
        worker.predict(pictures)
    assert worker.process is not None and worker.process.returncode is not None
    with pytest.raises(BackendDied, match="has ended"):
        worker.predict(pictures)
    worker.close()
    assert not list(tmp_path.iterdir())


def test_more_images_than_one_message_holds(small_network: Network, pictures: np.ndarray) -> None:
    images = np.concatenate([pictures] * 6)[: 2 * pool.CHUNK + 1]
    with Worker("openblas", small_network) as worker:
        logits = worker.predict(images)
        np.testing.assert_array_equal(logits[:12], worker.predict(images[:12]))
    assert logits.shape == (2 * pool.CHUNK + 1, 10)
    np.testing.assert_array_equal(logits[12:24], logits[:12])


@pytest.mark.parametrize("name", ["openblas", "torch"])
def test_a_float_input_of_whole_levels_gives_the_bits_of_the_picture(
    small_network: Network, pictures: np.ndarray, name: str
) -> None:
    with Worker(name, small_network) as worker:
        whole = worker.predict(pictures[:3])
        worker.send(pictures[:3].astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(worker.receive(), whole)
        nudged = np.nextafter(pictures[:3].astype(np.float32) / np.float32(255), np.float32(2))
        worker.send(nudged)
        assert 0 < np.abs(worker.receive() - whole).max() < 1e-3


def test_a_trace_holds_every_operation_and_ends_in_the_logits(small_network: Network, pictures: np.ndarray) -> None:
    with Worker("openblas", small_network) as worker:
        traced = worker.trace(pictures[0])
        logits = worker.predict(pictures[:1])
    assert list(traced) == [op["out"] for op in small_network.ops]
    np.testing.assert_array_equal(list(traced.values())[-1].reshape(1, -1), logits)
    assert traced[small_network.ops[0]["out"]].shape == (16, 32, 32)


def test_a_framework_has_no_trace(small_network: Network, pictures: np.ndarray) -> None:
    with pytest.raises(ChimeraError, match=r"torch is a framework.*name a GEMM backend"):
        Worker("torch", small_network).trace(pictures[0])
