"""The oracle: conflicts found, images counted, lost backends reported while the work goes on."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from chimera_lib.errors import BackendDied, BackendUnavailable, BadImage, ChimeraError, UnknownName
from chimera_lib.images import executor
from chimera_lib.images.network import Network, from_torch
from chimera_lib.images.oracle import Oracle, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.images.backends.registry import Backend


def test_verdict_finds_the_conflicts() -> None:
    logits = np.array([[[0, 1, 0], [2, 1, 0]], [[0, 1, 0], [1, 2, 0]], [[0, 1, 0.5], [0, 0, 1]]], np.float32)
    verdict = Verdict(("a", "b", "c"), logits)
    assert verdict.predictions.tolist() == [[1, 0], [1, 1], [1, 2]]
    assert verdict.conflict.tolist() == [False, True]


def test_real_backends_differ_in_the_last_bits(oracle: Oracle, pictures: np.ndarray) -> None:
    calls = oracle.calls
    verdict = oracle(pictures)
    assert verdict.names == ("openblas", "blis")
    assert verdict.logits.shape == (2, 12, 10) and verdict.logits.dtype == np.float32
    assert oracle.calls == calls + 12
    difference = np.abs(verdict.logits[0] - verdict.logits[1]).max()
    assert 0 < difference < 1e-4 * np.abs(verdict.logits).max()


def test_the_same_bits_again_and_image_by_image(small_network: Network, oracle: Oracle, pictures: np.ndarray) -> None:
    many = oracle(np.concatenate([pictures] * 4)).logits  # more than one message
    one_by_one = np.concatenate([oracle(picture[None]).logits for picture in pictures], axis=1)
    for part in range(4):
        np.testing.assert_array_equal(many[:, part * 12 : part * 12 + 12], one_by_one)
    with Oracle(small_network, ["openblas", "blis"]) as fresh:
        np.testing.assert_array_equal(fresh(pictures).logits, one_by_one)


def test_a_real_conflict_is_seen(pictures: np.ndarray) -> None:
    """Two classes that are equal in exact arithmetic, the same sum in another order: rounding decides."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(3 * 32 * 32).astype(np.float32)
    layer = nn.Linear(3 * 32 * 32, 2, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(np.stack([weights, weights]))
        exact = np.stack([executor.pixels(p).ravel() for p in pictures]).astype(np.float64) @ weights
        layer.weight[1, 0] += 1e-7
    assert np.abs(exact).max() < 1e4
    net = from_torch(nn.Sequential(nn.Flatten(), layer).eval())
    images = rng.integers(0, 256, (256, 32, 32, 3), np.uint8)
    with Oracle(net, ["openblas", "openblas:Nehalem", "blis", "mkl"]) as ask:
        verdict = ask(images)
    assert verdict.conflict.any() and not verdict.conflict.all()


def test_wrong_images_are_named(oracle: Oracle, pictures: np.ndarray) -> None:
    for wrong, what in [
        (pictures.astype(np.float32), "float32; expected uint8"),
        (pictures[0], r"\(32, 32, 3\); expected \(N, 32, 32, 3\)"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"\(1, 64, 64, 3\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), "no images"),
    ]:
        with pytest.raises(BadImage, match=what):
            oracle(wrong)


def test_a_float_input_is_asked_about_by_its_own_name(oracle: Oracle, pictures: np.ndarray) -> None:
    points = pictures[:3].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(oracle.at(points).logits, oracle(pictures[:3]).logits)
    with pytest.raises(BadImage, match="uint8; expected float32"):
        oracle.at(pictures[:3])
    points[0, 0, 0, 0] = np.nan
    with pytest.raises(BadImage, match="NaN"):
        oracle.at(points)


def test_backends_are_checked(small_network: Network) -> None:
    with pytest.raises(UnknownName, match="openblass"):
        Oracle(small_network, ["openblass", "blis"])
    for few in (["openblas"], ["blis", "blis"], []):
        with pytest.raises(ChimeraError, match="two or more different"):
            Oracle(small_network, few)


def test_a_backend_that_cannot_start_stops_the_oracle(small_network: Network, scripted: Callable[..., Backend]) -> None:
    with (
        pytest.raises(BackendUnavailable, match=r"broken: .*no such kernel"),
        Oracle(small_network, ["openblas", scripted("broken", start="raise RuntimeError('no such kernel')")]),
    ):
        pytest.fail("it started")


def kill(oracle: Oracle, name: str) -> None:
    (worker,) = [w for w in oracle.workers if w.name == name]
    assert worker.process is not None
    os.kill(worker.process.pid, signal.SIGKILL)


def test_a_killed_backend_is_dropped_and_reported(small_network: Network, pictures: np.ndarray) -> None:
    lines: list[str] = []
    with Oracle(small_network, ["openblas", "mkl", "blis"], report=lines.append) as ask:
        whole = ask(pictures)
        kill(ask, "mkl")
        rest = ask(pictures)
        assert rest.names == ask.names == ("openblas", "blis")
        assert list(ask.lost) == ["mkl"] and "SIGKILL" in ask.lost["mkl"]
        (line,) = lines
        assert line.startswith("warning: lost mkl") and "going on with openblas, blis" in line
        np.testing.assert_array_equal(rest.logits, whole.logits[[0, 2]])
        kill(ask, "blis")
        with pytest.raises(BackendDied, match=r"blis.*SIGKILL.*left: openblas"):
            ask(pictures)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("os.abort()", "SIGABRT"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("raise ArithmeticError('cannot multiply')", "ArithmeticError: cannot multiply"),
        ("os._exit(3)", "status 3"),
        ("time.sleep(60)", r"no answer in 3 s"),
        ("while True: pass", r"no answer in 3 s"),
    ],
)
def test_the_search_goes_on_whatever_kills_a_backend_midway(
    small_network: Network, pictures: np.ndarray, scripted: Callable[..., Backend], action: str, reason: str
) -> None:
    lines: list[str] = []
    # It dies at the 40th image: in the middle of the second message of the first call.
    doomed = scripted("doomed", predict=f"if self.count == 40: {action}" if "while" not in action else SPIN)
    images = np.concatenate([pictures] * 4)
    with Oracle(small_network, ["openblas", doomed, "blis"], timeout=3.0, report=lines.append) as ask:
        verdict = ask(images)
        assert verdict.names == ("openblas", "blis") and verdict.logits.shape == (2, 48, 10)
        assert ask.calls == 48
        assert len(lines) == 1
        assert re.search(reason, ask.lost["doomed"]), ask.lost
        assert ask(pictures).names == ("openblas", "blis")


SPIN = "\n        while self.count == 40: pass"


def test_logits_that_are_not_numbers_are_an_error(
    small_network: Network, pictures: np.ndarray, scripted: Callable[..., Backend]
) -> None:
    nan = scripted("nan", predict="return np.full(10, np.nan, np.float32)")
    with Oracle(small_network, ["openblas", nan]) as ask, pytest.raises(ChimeraError, match="logits of nan hold NaN"):
        ask(pictures)
