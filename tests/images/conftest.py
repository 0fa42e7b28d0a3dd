"""A trained network and real backends, shared by the tests of part I."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from chimera_lib.images import models
from chimera_lib.images.backends.registry import Backend
from chimera_lib.images.network import Network, from_torch
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAIR = ("openblas", "blis")


@pytest.fixture(scope="session")
def small_model() -> nn.Module:
    """The shipped ResNet-20: a trained network, and the fastest of this part."""
    torch.set_num_threads(1)
    return models.load("resnet20")


@pytest.fixture(scope="session")
def small_network(small_model: nn.Module) -> Network:
    return from_torch(small_model)


@pytest.fixture(scope="session")
def oracle(small_network: Network) -> Iterator[Oracle]:
    with Oracle(small_network, PAIR) as asked:
        yield asked


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Twelve smooth random 32x32 pictures, uint8 (12, 32, 32, 3)."""
    rng = np.random.default_rng(3)
    coarse = torch.from_numpy(rng.random((12, 3, 5, 5)))
    smooth = nn.functional.interpolate(coarse, size=32, mode="bicubic", align_corners=True).clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


RUNNER = """
import ctypes, os, signal, time
import numpy as np

class Model:
    count = 0

    def __init__(self, run):
        self.run = run

    def info(self):
        return {{"version": "1", "kernels": "scripted"}}

    def predict(self, image):
        self.count += 1
        {predict}
        return self.run.predict(image)

def start(network, options, executor):
    {start}
    return Model(executor.Executor(*executor.read(network), lambda a, b, out: np.matmul(a, b, out=out)))
"""


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., Backend]:
    """Makes a backend that runs given statements when it starts or before each image (``self.count`` from 1)."""

    def make(name: str = "scripted", predict: str = "pass", start: str = "pass") -> Backend:
        runner = tmp_path / f"{name}.py"
        runner.write_text(RUNNER.format(predict=predict, start=start))
        return Backend(name, "scripted", runner)

    return make
