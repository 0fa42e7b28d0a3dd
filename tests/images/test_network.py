"""Networks as data: converted from torch exactly, saved without pickles, written as ONNX."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor, models, network

if TYPE_CHECKING:
    from pathlib import Path


def forward(net: network.Network, x: np.ndarray) -> np.ndarray:
    return executor.forward((net.program, net.arrays), x, lambda a, b, out: np.matmul(a, b, out=out))


def agree(module: nn.Module, shape: tuple[int, int, int] = (3, 12, 12)) -> network.Network:
    """Convert and compare with the module in float64: the error of float32 is allowed, a wrong operation is not."""
    module = module.eval()
    net = network.from_torch(module, shape)
    x = np.random.default_rng(0).random(shape, np.float32)
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(x)[None].double()).numpy().reshape(-1)
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(forward(net, x), expected, atol=5e-6 * max(1.0, scale), rtol=0)
    return net


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.3, 2.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
    return module


class Functional(nn.Module):
    """The functional and method forms of the supported operations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8 * 9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.conv2d(x, self.first.weight, self.first.bias, stride=1, padding=1))
        y = F.batch_norm(
            self.second(x), self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias
        )
        y = torch.relu(self.norm(y))
        x = torch.add(x, y)
        x += y
        x = F.max_pool2d(x, 2)
        x = F.avg_pool2d(x, 2).relu()
        x = F.dropout(x, training=self.training)
        return F.linear(x.view(x.size(0), -1), self.last.weight, self.last.bias)


MODULES = {
    "cifarvgg": lambda: models.CIFARVGG(filters=8),
    "resnet20": models.ResNet20,
    "functional": Functional,
    "grouped": lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), nn.Flatten()),
    "oblong": lambda: nn.Sequential(nn.Conv2d(4, 5, (1, 3), stride=(2, 1), padding=(0, 1)), nn.Flatten()),
    "padded pools": lambda: nn.Sequential(
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    ),
    "norm of a vector": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.BatchNorm1d(6, affine=False)),
    "identity": lambda: nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.Conv2d(4, 2, 1), nn.Flatten()),
}
SHAPES = {"cifarvgg": (3, 32, 32), "resnet20": (3, 16, 16), "functional": (3, 12, 12)}


@pytest.mark.parametrize("name", MODULES)
def test_conversion_equals_the_module(name: str) -> None:
    shape = SHAPES.get(name, (4, 7, 9))
    module = MODULES[name]().eval()
    with torch.no_grad():
        module(torch.zeros(1, *shape))  # gives lazy layers their shapes
    agree(randomised(module), shape)


def test_mean_over_the_image_is_global_average_pooling() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.mean((2, 3)))

    agree(Mean())


class Scaled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) + 1.0


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), r"1 \(GELU\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2)), r"0 \(Conv2d\): dilation=\(2, 2\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), "padding='same'"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "output size 2"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "no running statistics"),
        (Scaled(), "operand 1.0 is a constant"),
        (Branching(), "cannot trace Branching"),
    ],
)
def test_unsupported_module_is_named(module: nn.Module, named: str) -> None:
    with pytest.raises(ChimeraError, match=named) as caught:
        network.from_torch(module.eval())
    assert "\n" not in str(caught.value)


def test_training_mode_is_refused() -> None:
    with pytest.raises(ChimeraError, match=r"training mode.*eval\(\)"):
        network.from_torch(nn.Sequential(nn.Conv2d(3, 4, 3)).train())


def test_nan_weights_are_refused() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    with torch.no_grad():
        module[1].weight[0, 0] = float("nan")
    with pytest.raises(ChimeraError, match=r"1\.weight holds NaN"):
        network.from_torch(module, (3, 2, 2))


def test_saved_network_is_the_same_network(small_network: network.Network, tmp_path: Path) -> None:
    small_network.save(tmp_path / "n.npz")
    again = network.load(tmp_path / "n.npz")
    assert again.sha256 == small_network.sha256
    assert again.program == small_network.program
    x = np.random.default_rng(0).random((3, 32, 32), np.float32)
    np.testing.assert_array_equal(forward(again, x), forward(small_network, x))
    assert [p.name for p in tmp_path.iterdir()] == ["n.npz"]


def test_hash_sees_every_weight(small_network: network.Network) -> None:
    bias = small_network.ops[-1]["bias"]
    changed = small_network.arrays[bias].copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    other = network.Network(small_network.ops, {**small_network.arrays, bias: changed})
    assert other.sha256 != small_network.sha256


def test_pickles_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "evil.npz").open("wb") as file:
        np.savez(file, **{executor.PROGRAM: np.array([{"op": "conv"}], dtype=object)})
    with pytest.raises(ChimeraError, match="not a saved network"):
        network.load(tmp_path / "evil.npz")


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello")
    with pytest.raises(ChimeraError, match="not a saved network"):
        network.load(path)


@pytest.mark.parametrize("name", MODULES)
def test_onnx_is_valid_and_runs_to_the_same_logits(name: str) -> None:
    import onnx

    ort = pytest.importorskip("onnxruntime")
    shape = SHAPES.get(name, (4, 7, 9))
    module = MODULES[name]().eval()
    with torch.no_grad():
        module(torch.zeros(1, *shape))
    net = network.from_torch(randomised(module), shape)
    content = network.to_onnx(net)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    x = np.random.default_rng(1).random(shape, np.float32)
    ours = forward(net, x)
    (theirs,) = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"input": x[None]})
    assert theirs.shape == (1, ours.size)
    np.testing.assert_allclose(theirs[0], ours, atol=1e-5)
