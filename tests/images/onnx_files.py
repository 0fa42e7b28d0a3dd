"""Graphs by hand, and what ONNX Runtime says of an ONNX file: shared by the tests that read such files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from chimera_lib.images import executor
from chimera_lib.images import onnx as reader
from chimera_lib.images.backends import frameworks

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.images.network import Network

Weights = dict[str, np.ndarray]
random = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray:
    return random.normal(0, 0.5, shape).astype(np.float32)


def build(
    path: Path, nodes: list[Any], arrays: Weights, shape: tuple[Any, ...] = (1, 3, 9, 8), opset: int = 17, **more: Any
) -> Path:
    """A graph by hand from ``x`` to ``y``."""
    kind = more.get("kind", TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(name) for name in more.get("outputs", ["y"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def node(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def flat(*nodes: Any) -> list[Any]:
    """Nodes from ``x`` to ``h``, and then everything as a vector."""
    return [*nodes, node("Flatten", "h", "y")]


def reference(model: bytes | str, x: np.ndarray, output: str | None = None) -> np.ndarray:
    """What ONNX Runtime says of one image, with the graph as it stands in the file."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (result,) = session.run([output] if output else None, {session.get_inputs()[0].name: x[None]})
    return result.reshape(-1)


def computed(net: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logits of the executor and of PyTorch."""
    ours = executor.forward((net.program, net.arrays), x, lambda a, b, out: np.matmul(a, b, out=out))
    arrays = {name: torch.from_numpy(array) for name, array in net.arrays.items()}
    with torch.no_grad():
        theirs = frameworks.torch_layers(torch, net.program, arrays)(torch.from_numpy(x)[None])
    return ours, theirs.numpy().reshape(-1)


def agree(path: Path, output: str | None = None) -> Network:
    """Read the file and compare with ONNX Runtime on the original, to 1e-4 of the largest logit."""
    net = reader.read(path)
    x = np.random.default_rng(0).random(net.input_shape, np.float32)
    expected = reference(str(path), x, output)
    assert expected.std() > 1e-4
    for logits in computed(net, x):
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    return net
