"""The numpy executor: right numbers, a fixed order, one image at a time."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib.images import executor

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.images.network import Network


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    np.matmul(a, b, out=out)


def test_pixels_are_divided_by_255_in_float32() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(8, 32, 1).repeat(3, 2)
    x = executor.pixels(image)
    assert x.shape == (3, 8, 32) and x.dtype == np.float32
    np.testing.assert_array_equal(x[1].ravel(), (np.arange(256, dtype=np.float64) / 255).astype(np.float32))
    np.testing.assert_array_equal(x[0], (torch.arange(256) / 255).reshape(8, 32).numpy())


def test_logits_agree_with_float64(small_model: nn.Module, small_network: Network, pictures: np.ndarray) -> None:
    run = executor.Executor(small_network.program, small_network.arrays, product)
    ours = np.stack([run.predict(picture) for picture in pictures])
    x = torch.from_numpy(np.stack([executor.pixels(picture) for picture in pictures])).double()
    with torch.no_grad():
        exact = copy.deepcopy(small_model).double()(x).numpy()
    assert 0 < np.abs(ours - exact).max() < 5e-6 * np.abs(exact).max()


def test_an_image_leaves_nothing_behind(small_network: Network, pictures: np.ndarray) -> None:
    run = executor.Executor(small_network.program, small_network.arrays, product)
    first = run.predict(pictures[0])
    for picture in pictures[1:]:
        run.predict(picture)
    np.testing.assert_array_equal(run.predict(pictures[0]), first)
    fresh = executor.Executor(small_network.program, small_network.arrays, product)
    np.testing.assert_array_equal(fresh.predict(pictures[0]), first)


def test_the_executor_keeps_its_hands_off_the_network(small_network: Network, pictures: np.ndarray) -> None:
    before = small_network.sha256
    executor.Executor(small_network.program, small_network.arrays, product).predict(pictures[0])
    assert small_network.sha256 == before


def test_trace_holds_every_result(small_network: Network, pictures: np.ndarray) -> None:
    run = executor.Executor(small_network.program, small_network.arrays, product)
    trace: dict[str, np.ndarray] = {}
    logits = run(executor.pixels(pictures[0]), trace)
    assert list(trace) == [op["out"] for op in small_network.ops]
    np.testing.assert_array_equal(trace[small_network.ops[-1]["out"]].ravel(), logits)
    relus = [trace[op["out"]] for op in small_network.ops if op["op"] == "relu"]
    assert all((relu >= 0).all() and relu.any() for relu in relus)
    norms = [trace[op["out"]] for op in small_network.ops if op["op"] == "batch_norm"]
    assert all((norm < 0).any() for norm in norms), "a ReLU in place must not have changed the traced batch norm"


def test_average_pooling_adds_in_row_order() -> None:
    x = np.array([[[1e8, 1.0], [-1e8, 1.0]]], np.float32)
    program = {
        "input_shape": [1, 2, 2],
        "ops": [{"op": "global_avg_pool", "in": ["input"], "out": "y"}],
    }
    # ((1e8 + 1) - 1e8) + 1 in float32 is 1: the first 1 is lost. Pairwise sums would give another number.
    assert executor.forward((program, {}), x, product)[0] == np.float32(0.25)


def test_buffers_are_aligned(small_network: Network) -> None:
    run = executor.Executor(small_network.program, small_network.arrays, product)
    seen = []

    def spy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        seen.extend(array.ctypes.data % 64 for array in (a, b, out))
        product(a, b, out)

    run = executor.Executor(small_network.program, small_network.arrays, spy)
    run(np.zeros((3, 32, 32), np.float32))
    assert seen and not any(seen)


def test_unknown_operation_is_named() -> None:
    program = {"input_shape": [1, 2, 2], "ops": [{"op": "softmax", "in": ["input"], "out": "y"}]}
    with pytest.raises(ValueError, match="no operation 'softmax'"):
        executor.Executor(program, {}, product)


@pytest.mark.parametrize("name", ["executor.py", "backends/worker.py", "backends/gemm.py", "backends/frameworks.py"])
def test_what_a_worker_loads_needs_nothing_of_this_package(name: str) -> None:
    """Loaded by path in an interpreter that cannot see the package, as Debian's Python cannot."""
    path = Path(executor.__file__).parent / name
    ast.parse(path.read_text(), feature_version=(3, 9))  # and no newer syntax than other interpreters read
    code = (
        "import sys, importlib.util as u; import numpy; sys.modules['chimera_lib'] = None; "
        f"s = u.spec_from_file_location('part', {str(path)!r}); m = u.module_from_spec(s); s.loader.exec_module(m)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd="/", timeout=60)
