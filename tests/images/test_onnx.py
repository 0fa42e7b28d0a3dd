"""ONNX files of other exporters: what is read computes what ONNX Runtime computes from the file itself."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor, network
from chimera_lib.images import onnx as reader
from chimera_lib.images.oracle import Oracle
from tests.images.architectures import MODULES, SHAPES, randomised
from tests.images.onnx_files import agree, build, computed, flat, node, reference, weights

pytest.importorskip("onnxruntime")
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def export(module: nn.Module, path: Path, shape: tuple[int, ...], **more: Any) -> Path:
    """As PyTorch's own exporter writes it, with the layers unfused."""
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its successor
        folding = {"training": torch.onnx.TrainingMode.EVAL, "do_constant_folding": False, **more}
        torch.onnx.export(module, (torch.rand(1, *shape),), str(path), dynamo=False, **folding)
    return path


class Inverted(nn.Module):
    """MobileNetV2's block: expand, depthwise, project, and the sum where shapes allow (Sandler et al. 2018)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inside
        self.same = stride == 1 and inside == outside
        self.layers = nn.Sequential(
            nn.Conv2d(inside, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.same else self.layers(x)


class Mobile(nn.Module):
    """A small MobileNetV2 with its normalisation inside."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Inverted(8, 12, 2), Inverted(12, 12, 1), Inverted(12, 16, 2))
        self.head = nn.Linear(16, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem((x - self.mean) / self.deviation))
        return F.softmax(self.head(x.mean((2, 3))), dim=1)


@pytest.mark.parametrize("dynamic", [False, True], ids=["batch of 1", "any batch"])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_mobilenet_with_normalisation(tmp_path: Path, dynamic: bool, opset: int) -> None:
    axes = {"dynamic_axes": {"image": {0: "batch"}}} if dynamic else {}
    names = {"input_names": ["image"], "output_names": ["probabilities"]}
    path = export(randomised(Mobile()), tmp_path / "m.onnx", (3, 40, 40), opset_version=opset, **names, **axes)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"BatchNormalization", "Clip", "Softmax", "Sub", "Div", "ReduceMean"} <= kinds
    net = reader.read(path)
    x = np.random.default_rng(0).random((3, 40, 40), np.float32)
    expected = reference(str(path), x)
    for logits in computed(net, x):
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), expected, rtol=1e-4)
    assert "softmax" not in {op["op"] for op in net.ops}


@pytest.mark.parametrize("name", MODULES)
def test_exported_modules(tmp_path: Path, name: str) -> None:
    channels, *size = SHAPES.get(name, (4, 7, 9))
    module = MODULES[name]().eval()
    with torch.no_grad():
        module(torch.zeros(1, channels, *size))
    first = nn.Conv2d(3, channels, 1) if channels == 4 else nn.Identity()  # images have three channels
    whole = nn.Sequential(first, randomised(module))
    net = reader.read(export(whole, tmp_path / "m.onnx", (3, *size)))
    x = np.random.default_rng(0).random((3, *size), np.float32)
    with torch.no_grad():  # ONNX Runtime refuses a dilated convolution of automatic padding, which PyTorch exports
        expected = whole(torch.from_numpy(x)[None]).numpy().reshape(-1)
    for logits in computed(net, x):
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_what_was_read_is_a_network_like_any(tmp_path: Path) -> None:
    """It can be saved, loaded, written as ONNX anew, and shown to backends in processes of their own."""
    path = export(randomised(Mobile()), tmp_path / "m.onnx", (3, 40, 40))
    net = reader.read(path)
    net.save(tmp_path / "n.npz")
    assert network.load(tmp_path / "n.npz").sha256 == net.sha256
    picture = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    x = executor.pixels(picture[0])
    ours, _ = computed(net, x)
    np.testing.assert_allclose(reference(network.to_onnx(net), x), ours, atol=1e-5)
    with Oracle(net, ("openblas", "torch", "onnxruntime")) as oracle:
        np.testing.assert_allclose(oracle(picture).logits[:, 0], np.stack([ours] * 3), atol=1e-5)


def test_shapes_computed_from_the_batch(tmp_path: Path) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3, padding="same"), nn.Linear(4 * 9, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.max_pool2d(self.conv(x), 2, ceil_mode=True)
            return self.last(x.view(x.size(0), -1))

    path = export(Viewed(), tmp_path / "v.onnx", (3, 5, 5), input_names=["x"], dynamic_axes={"x": {0: "n"}})
    assert "Shape" in {node.op_type for node in onnx.load(path).graph.node}
    agree(path)


@pytest.mark.parametrize("name", ["squeezenet", "resnet50", "inception_v2", "densenet121"])
def test_published_graphs(tmp_path: Path, name: str) -> None:
    """The graphs that the onnx package ships of four published classifiers, as Caffe2 exported them, with weights."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    for each in model.graph.node:
        if each.op_type == "ConstantOfShape":  # they stand for the weights
            shape = shapes[each.input[0]].tolist()
            deviation = math.sqrt(2 / math.prod(shape[1:]))
            weight = rng.normal(0, deviation, shape) if len(shape) > 1 else rng.uniform(0.5, 1.5, shape)
            model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), each.output[0]))
    logits = None
    if kept[-1].op_type == "Softmax":
        logits = kept[-1].input[0]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, tmp_path / "m.onnx")
    net = reader.read(tmp_path / "m.onnx")
    x = rng.random((3, 224, 224), np.float32)
    if logits:  # they are no output of the file, so ONNX Runtime is given one more
        model.graph.output.append(helper.make_empty_tensor_value_info(logits))
    expected = reference(model.SerializeToString(), x, logits or model.graph.output[0].name)
    for theirs in computed(net, x):
        np.testing.assert_allclose(theirs, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    path = build(tmp_path / "m.onnx", flat(node("Conv", "x w", "h")), {"w": weights(6, 3, 2, 3)})
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    agree(path)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ChimeraError, match="weights that lie in files beside it"):
        reader.read(path)


def test_channels_last(tmp_path: Path) -> None:
    """As converters from TensorFlow write it: the image is (N, H, W, C), and brought to (N, C, H, W) first."""
    nodes = flat(node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "h"))
    path = build(tmp_path / "m.onnx", nodes, {"w": weights(4, 3, 3, 3)}, (1, 6, 5, 3))
    net = reader.read(path)
    assert net.input_shape == (3, 6, 5)
    x = np.random.default_rng(0).random((3, 6, 5), np.float32)
    expected = reference(str(path), x.transpose(1, 2, 0))
    np.testing.assert_allclose(computed(net, x)[0], expected, atol=1e-5)


def test_one_channel(tmp_path: Path) -> None:
    path = build(tmp_path / "m.onnx", flat(node("Conv", "x w", "h")), {"w": weights(4, 1, 3, 3)}, (1, 1, 6, 6))
    assert agree(path).input_shape == (1, 6, 6)


@pytest.mark.parametrize("content", [b"", b"not a model\n" * 20, None, b"\x89PNG\r\n\x1a\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ChimeraError, match=r"m\.onnx is not a(n ONNX model| file)"):
        reader.read(path)
