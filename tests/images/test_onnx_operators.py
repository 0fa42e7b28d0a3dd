"""Every ONNX operator that is read, in the variants that exporters write, against ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from chimera_lib.errors import ChimeraError
from chimera_lib.images import onnx as reader
from tests.images.onnx_files import Weights, agree, build, flat, node, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("onnxruntime")

GRAPHS: dict[str, Callable[[], tuple[list[Any], Weights]]] = {
    **{
        f"conv {auto} stride {stride}": lambda auto=auto, stride=stride: (
            flat(node("Conv", "x w b", "h", auto_pad=auto, strides=stride, kernel_shape=[4, 3])),
            {"w": weights(5, 3, 4, 3), "b": weights(5)},
        )
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for stride in ([1, 1], [2, 3])
    },
    "conv of uneven pads": lambda: (
        flat(node("Conv", "x w", "h", pads=[0, 1, 3, 2], dilations=[2, 1], group=3)),
        {"w": weights(6, 1, 2, 3)},
    ),
    **{
        f"{kind} {more}": lambda kind=kind, more=more: (
            flat(
                node("Conv", "x w", "c"),  # negative values, that padding with zeros would hide
                node(kind, "c", "h", kernel_shape=[3, 2], **more),
            ),
            {"w": weights(4, 3, 1, 1)},
        )
        for kind in ("MaxPool", "AveragePool")
        for more in (
            {"strides": [2, 2], "pads": [0, 0, 1, 1]},
            {"strides": [2, 3], "auto_pad": "SAME_UPPER"},
            {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
            {"strides": [3, 3], "ceil_mode": 1},
            {"strides": [2, 3], "ceil_mode": 1, "pads": [1, 0, 1, 0]},
        )
    },
    "average that counts padding": lambda: (
        flat(node("AveragePool", "x", "h", kernel_shape=[3, 3], pads=[1, 0, 2, 1], count_include_pad=1)),
        {},
    ),
    **{
        f"gemm {more}": lambda more=more: (
            [node("Flatten", "x", "f"), node("Gemm", "f w b", "y", **more)],
            {"w": weights(*((4, 216) if more.get("transB") else (216, 4))), "b": weights(1, 4)},
        )
        for more in ({}, {"transB": 1}, {"alpha": 0.3, "beta": 2.0}, {"beta": 0.0}, {"alpha": 2.0, "transB": 1})
    },
    "matrix product and sum": lambda: (
        [node("Reshape", "x s", "f"), node("MatMul", "f w", "m"), node("Add", "b m", "y")],
        {"s": np.array([-1, 216], np.int64), "w": weights(216, 4), "b": weights(4)},
    ),
    "constants on the left": lambda: (
        flat(node("Sub", "c x", "a"), node("Mul", "d a", "b"), node("Div", "b d", "h")),
        {"c": weights(1, 3, 1, 1), "d": weights(3, 1, 8)},
    ),
    "a sum of three": lambda: (flat(node("Relu", "x", "r"), node("Sum", "x r x", "h")), {}),
    "pads before a pool": lambda: (
        flat(node("Sub", "x c", "a"), node("Pad", "a p v", "b"), node("MaxPool", "b", "h", kernel_shape=[2, 2])),
        {"c": np.float32(2), "p": np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64), "v": np.float32(0)},
    ),
    "pads before a convolution": lambda: (
        flat(node("Pad", "x p", "a"), node("Conv", "a w", "h", pads=[1, 1, 1, 1])),
        {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1], np.int64), "w": weights(3, 3, 3, 3)},
    ),
    "one bound": lambda: (flat(node("Clip", "x lo", "a"), node("Clip", "a  hi", "h")), {"lo": np.float32(0.2)}),
    "global maximum": lambda: (flat(node("GlobalMaxPool", "x", "h")), {}),
    "mean, then squeeze": lambda: (
        [node("ReduceMean", "x", "m", axes=[-1, -2]), node("Squeeze", "m a", "y")],
        {"a": np.array([2, 3], np.int64)},
    ),
    "mean without its axes": lambda: ([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)], {}),
    "channels moved behind one pixel": lambda: (
        [
            node("GlobalAveragePool", "x", "g"),
            node("Transpose", "g", "t", perm=[0, 2, 3, 1]),
            node("Flatten", "t", "y"),
        ],
        {},
    ),
    "channels moved by their shape": lambda: (
        [node("GlobalAveragePool", "x", "g"), node("Reshape", "g s", "t"), node("Reshape", "t u", "y")],
        {"s": np.array([1, 1, 1, 3], np.int64), "u": np.array([-1, 3], np.int64)},
    ),
    "weights that are computed": lambda: (
        flat(node("Mul", "w t", "v"), node("Transpose", "v", "u", perm=[1, 0, 2, 3]), node("Conv", "x u", "h")),
        {"w": weights(3, 5, 2, 2), "t": np.float32(0.5)},
    ),
    "what changes nothing": lambda: (
        flat(
            node("Identity", "x", "a"),
            node("Cast", "a", "b", to=1),
            node("Dropout", "b", "c"),
            node("Transpose", "c", "d", perm=[0, 1, 2, 3]),
            node("Reshape", "d s", "h"),
            node("Erf", "z", "unused"),
        ),
        {"s": np.array([0, 3, -1, 8], np.int64), "z": weights(2)},
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_by_hand(tmp_path: Path, name: str) -> None:
    nodes, arrays = GRAPHS[name]()
    if name == "one bound":
        nodes[1] = helper.make_node("Clip", ["a", "", "hi"], ["h"])
        arrays["hi"] = np.float32(0.7)
    agree(build(tmp_path / "m.onnx", nodes, {key: np.asarray(array) for key, array in arrays.items()}))


REFUSED: dict[str, tuple[list[Any], Weights, dict[str, Any], str]] = {
    "an operator": (
        [node("Gelu", "x", "y")],
        {},
        {"opset": 20},
        r"cannot read Gelu 'y'.*no such operation.*Conv, Gemm",
    ),
    "its name": ([node("Elu", "x", "y", name="/block/Elu")], {}, {}, "cannot read Elu '/block/Elu': there is no such"),
    "a foreign operator": (
        [node("FusedConv", "x w", "y", domain="com.microsoft")],
        {"w": weights(1)},
        {},
        "belongs to com",
    ),
    "quantised": (
        [node("QuantizeLinear", "x s", "y")],
        {"s": np.array(0.1, np.float32)},
        {},
        "the model is quantised; expected float32",
    ),
    "half precision": (flat(node("Conv", "x w", "h")), {"w": np.ones((2, 3, 1, 1), np.float16)}, {}, "'w' is float16"),
    "half input": ([node("Relu", "x", "y")], {}, {"kind": TensorProto.FLOAT16}, "input 'x' is FLOAT16; expected FLOAT"),
    "a batch": ([node("Relu", "x", "y")], {}, {"shape": (8, 3, 9, 9)}, r"\(8, 3, 9, 9\); expected a batch of 1"),
    "any size": ([node("Relu", "x", "y")], {}, {"shape": ("n", 3, "h", "w")}, r"\(n, 3, h, w\); expected fixed"),
    "many channels": ([node("Relu", "x", "y")], {}, {"shape": (1, 32, 32, 4)}, "expected 3 or 1 channels"),
    "channels last": (
        [node("Relu", "x", "y")],
        {},
        {"shape": (1, 32, 32, 3)},
        "channels come last; expected a Transpose",
    ),
    "a vector": ([node("Relu", "x", "y")], {}, {"shape": (1, 64)}, r"expected \(N, C, H, W\)"),
    "an old opset": ([node("Relu", "x", "y")], {}, {"opset": 6}, "opset 6; expected 7 or newer"),
    "an image out": ([node("Relu", "x", "y")], {}, {}, r"output has shape \('N', 3, 9, 8\); expected \(N, classes\)"),
    "one logit": (
        [node("GlobalAveragePool", "x", "g"), node("Conv", "g w", "y")],
        {"w": weights(1, 3, 1, 1)},
        {},
        "two classes at least",
    ),
    "a product of tensors": (flat(node("Relu", "x", "r"), node("Mul", "x r", "h")), {}, {}, "Mul of two tensors"),
    "division by a tensor": (flat(node("Div", "c x", "h")), {"c": weights(1)}, {}, "division by a tensor"),
    "a sum that broadcasts": (
        flat(node("GlobalAveragePool", "x", "g"), node("Add", "x g", "h")),
        {},
        {},
        r"a sum of \('N', 3, 9, 8\) and \('N', 3, 1, 1\)",
    ),
    "a constant that grows": (flat(node("Add", "x c", "h")), {"c": weights(4, 1, 1, 1)}, {}, "does not broadcast"),
    "softmax inside": (flat(node("Softmax", "x", "s"), node("Relu", "s", "h")), {}, {}, "expected at the end"),
    "axes reordered": (flat(node("Transpose", "x", "h", perm=[0, 2, 3, 1])), {}, {}, "the axes are reordered"),
    "reshaped": (
        flat(node("Reshape", "x s", "h")),
        {"s": np.array([1, 9, 3, 8], np.int64)},
        {},
        r"from \('N', 3, 9, 8\) to \('N', 9, 3, 8\); expected \(N, 216\)",
    ),
    "rows joined": (flat(node("Concat", "x x", "h", axis=2)), {}, {}, "axis 2; expected 1, the channels"),
    "reflected": (
        flat(node("Pad", "x p", "h", mode="reflect")),
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)},
        {},
        "mode reflect; expected constant",
    ),
    "rounded up and counted": (
        flat(node("AveragePool", "x", "h", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1)),
        {},
        {},
        "ceil_mode together with count_include_pad",
    ),
    "transposed": (
        [node("Flatten", "x", "f"), node("Gemm", "f w", "y", transA=1)],
        {"w": weights(1, 4)},
        {},
        "transA=1",
    ),
    "two outputs": (
        [node("Relu", "x", "y"), node("Relu", "x", "z")],
        {},
        {"outputs": ["y", "z"]},
        "1 inputs and 2 outputs",
    ),
    "a constant": ([node("Identity", "c", "y")], {"c": weights(1, 3)}, {}, "does not depend on the image"),
    **{
        name: (nodes, {"w": weights(6, 1, 2, 2), **more}, {}, message)
        for name, nodes, more, message in (
            ("no kernel", flat(node("MaxPool", "x", "h")), {}, "MaxPool 'h': no kernel_shape; expected"),
            ("no axis", flat(node("Concat", "x x", "h")), {}, "Concat 'h': axis 0; expected 1"),
            ("no weights", flat(node("Conv", "x", "h")), {}, "Conv 'h': 1 inputs; expected at least 2"),
            (
                "no strides",
                flat(node("Conv", "x w", "h", group=3, strides=[0, 0])),
                {},
                r"Conv 'h': strides \[0, 0\]; expected",
            ),
            ("two pads", flat(node("Conv", "x w", "h", group=3, pads=[1, 1])), {}, r"pads \[1, 1\]; expected four"),
            (
                "four pads",
                flat(node("Pad", "x p", "h")),
                {"p": np.array([1, 1, 1, 1], np.int64)},
                "Pad 'h': 4 pads; expected 8",
            ),
            (
                "uneven groups",
                flat(node("Conv", "x w", "h", group=3)),
                {"w": weights(5, 1, 2, 2)},
                "Conv 'h': 5 outputs in 3 groups; expected a multiple of 3",
            ),
            (
                "a short bias",
                flat(node("Conv", "x w b", "h", group=3)),
                {"b": weights(1)},
                r"Conv 'h': a bias \(1,\); expected \(6,\)",
            ),
            (
                "short terms",
                flat(node("BatchNormalization", "x b b b b", "h")),
                {"b": weights(1)},
                r"BatchNormalization 'h': weight \(1,\); expected \(3,\)",
            ),
            ("no reshape", flat(node("Reshape", "x", "h")), {}, "Reshape 'h': 1 inputs; expected at least 2"),
            ("no type", flat(node("Cast", "x", "h")), {}, "Cast 'h' breaks ONNX's rules .KeyError: 'to'.; export"),
            ("no input", flat(helper.make_node("Relu", ["nothing"], ["h"])), {}, "Relu 'h': 'nothing' is a constant"),
            (
                "an attribute of another operator",
                flat(node("Relu", "x", "h", alpha=2.0)),
                {},
                "not a valid ONNX model: .*Unrecognized attribute: alpha for operator Relu.*; export it anew",
            ),
        )
    },
    **{
        f"softmax over {axis} in opset {opset}": (
            [*nodes, node("Softmax", "f", "y", **({} if axis is None else {"axis": axis}))],
            {},
            {"opset": opset},
            message,
        )
        for axis, opset, nodes, message in (
            (0, 17, [node("Flatten", "x", "f")], "Softmax 'y': axis 0 of 2; expected 1, the classes"),
            (-2, 11, [node("Flatten", "x", "f")], "axis -2 of 2"),
            (None, 13, [node("GlobalAveragePool", "x", "f")], "axis -1 of 4"),
        )
    },
    "not finite": (flat(node("Add", "x c", "h")), {"c": np.array([np.inf], np.float32)}, {}, "NaN or infinity"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    nodes, arrays, more, message = REFUSED[name]
    path = build(tmp_path / "m.onnx", nodes, arrays, **more)
    with pytest.raises(ChimeraError, match=message) as caught:
        reader.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("axis", "opset"), [(1, 17), (-1, 17), (None, 17), (None, 11), (-1, 11)])
def test_a_softmax_over_the_classes_is_left_out(tmp_path: Path, axis: int | None, opset: int) -> None:
    """Whatever the axis is called; its default was 1 before opset 13 and is -1 since."""
    more = {} if axis is None else {"axis": axis}
    nodes = [node("Flatten", "x", "f"), node("Softmax", "f", "y", **more)]
    net = reader.read(build(tmp_path / "m.onnx", nodes, {}, opset=opset))
    assert [op["op"] for op in net.ops] == ["flatten"] and net.left_out == "Softmax"
