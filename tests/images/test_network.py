"""Networks as data: converted from torch exactly, saved without pickles, written as ONNX."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor, network
from tests.images.architectures import MODULES, SHAPES, randomised

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


@pytest.mark.parametrize("name", MODULES)
def test_conversion_equals_the_module(name: str) -> None:
    shape = SHAPES.get(name, (4, 7, 9))
    module = MODULES[name]().eval()
    with torch.no_grad():
        module(torch.zeros(1, *shape))  # gives lazy layers their shapes
    agree(randomised(module), shape)


def test_padding_is_folded_into_the_convolution() -> None:
    net = agree(MODULES["padded"]().eval(), (4, 7, 9))
    assert [op["op"] for op in net.ops] == ["conv", "flatten"]
    assert net.ops[0]["padding"] == [3, 1, 4, 2]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_frameworks_compute_the_same(name: str, framework: str) -> None:
    from chimera_lib.images.backends import frameworks

    shape = SHAPES.get(name, (4, 7, 9))
    module = MODULES[name]().eval()
    with torch.no_grad():
        module(torch.zeros(1, *shape))
    net = network.from_torch(randomised(module), shape)
    x = np.random.default_rng(1).random(shape, np.float32)
    if framework == "torch":
        arrays = {key: torch.from_numpy(array) for key, array in net.arrays.items()}
        theirs = frameworks.torch_layers(torch, net.program, arrays)(torch.from_numpy(x)[None]).numpy()
    else:
        jax = pytest.importorskip("jax")
        theirs = np.asarray(frameworks.jax_layers(jax, net.program)(net.arrays, x[None]))
    assert theirs.shape[0] == 1
    np.testing.assert_allclose(theirs.reshape(-1), forward(net, x), atol=2e-5)


def test_mean_over_the_image_is_global_average_pooling() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.mean((2, 3)))

    agree(Mean())


class Squeezed(nn.Module):
    """Squeeze and excitation: a product of two tensors, which is not supported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * x.mean((2, 3), keepdim=True)).flatten(1)


class Divided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1.0 / x).flatten(1)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), r"1 \(GELU\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), r"0 \(Conv2d\): padding_mode=reflect"),
        (nn.Sequential(nn.ConstantPad2d(1, 0.5)), "padding other than with zeros"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2)), "output size 2"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "no running statistics"),
        (Squeezed(), "mul of two tensors"),
        (Divided(), "division by a tensor"),
        (Branching(), "cannot trace Branching"),
    ],
)
def test_unsupported_module_is_named(module: nn.Module, named: str) -> None:
    with pytest.raises(ChimeraError, match=named) as caught:
        network.from_torch(module.eval())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()), r"Sequential takes no image \(3, 32, 32\): .*1 channels"),
        (nn.Sequential(nn.Flatten(), nn.Linear(27, 2)), r"takes no image \(3, 32, 32\): .*shapes cannot be multiplied"),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), r"answers with \(1, 2, 30, 30\); expected logits"),
    ],
)
def test_module_for_other_images_is_refused(module: nn.Module, named: str) -> None:
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


CONV = {"op": "conv", "in": ["input"], "out": "c", "weight": "w", "bias": "b", "stride": [1, 1], "padding": [0, 0]}
NORM = {"op": "batch_norm", "in": ["input"], "out": "n", "weight": "w", "bias": "b", "mean": "w", "var": "w", "eps": 0}


@pytest.mark.parametrize(
    ("op", "weight", "bias", "message"),
    [
        ({**CONV, "groups": 3}, (5, 1, 2, 2), (5,), "conv 'c': 5 outputs in 3 groups; expected a multiple"),
        ({**CONV, "groups": 1}, (5, 3, 2, 2), (1,), r"conv 'c': bias \(1,\); expected \(5,\)"),
        (NORM, (3,), (1,), r"batch_norm 'n': bias \(1,\); expected \(3,\)"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    op: dict[str, object], weight: tuple[int, ...], bias: tuple[int, ...], message: str
) -> None:
    """They would broadcast, or leave channels as they were."""
    arrays = {"w": np.ones(weight, np.float32), "b": np.ones(bias, np.float32)}
    with pytest.raises(ChimeraError, match=message):
        network.Network([op], arrays, (3, 4, 4))


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
