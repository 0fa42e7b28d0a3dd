"""A network as data: a list of operations and float32 arrays, the same for every backend.

Made from a torch module by ``torch.fx``, kept as one .npz without pickles, written out as ONNX. All backends
start from this one object, so that what differs between them is arithmetic and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True)
class Network:
    """A feed-forward network that maps one image to logits.

    Attributes:
        ops: operations in order, each ``{"op", "in": [names], "out": name, ...}``; the image is named ``input``, the
            last operation's result are the logits. Entries such as ``weight`` name an array. Kinds: conv (``stride``,
            ``padding`` [vertical, horizontal] or [top, left, bottom, right], ``groups``, optional ``dilation``),
            batch_norm, relu, clip (``min``, ``max``), max_pool, avg_pool (optional ``count_include_pad``, default
            true), global_avg_pool, linear, flatten, pad (zeros), add, concat (of channels), constant (``function``
            add, sub, mul or div; ``value`` names an array that broadcasts over (C, H, W), or (1, N)).
        left_out: what stood behind the logits in the file that this was read from, such as ``Softmax``.
        arrays: float32 parameters by name, in torch's layouts (conv (Cout, Cin/groups, kh, kw), linear (N, K)).
        input_shape: (C, H, W).
    """

    ops: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]
    input_shape: tuple[int, int, int] = (3, 32, 32)
    left_out: str = ""

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise ChimeraError(f"network array {name} is {array.dtype}; expected float32")
            if not np.isfinite(array).all():
                raise ChimeraError(f"network array {name} holds NaN or infinity; expected finite float32 weights")
        for op in self.ops:
            self._fits(op)

    def _fits(self, op: dict[str, Any]) -> None:
        """Raise ChimeraError where parameters do not fit each other: a backend might compute something, but what?"""
        keys = {"conv": ("weight", "bias"), "batch_norm": ("weight", "bias", "mean", "var")}.get(op["op"], ())
        shapes = {key: self.arrays[op[key]].shape for key in keys if op.get(key) in self.arrays}
        if "weight" not in shapes:
            return
        place, outputs = f"{op['op']} {op['out']!r}", shapes["weight"][0]
        for key, shape in shapes.items():
            if key != "weight" and shape != (outputs,):
                raise ChimeraError(f"{place}: {key} {shape}; expected {(outputs,)}, as it has {outputs} channels")
        groups = op.get("groups", 1)
        if groups < 1 or outputs % groups:
            raise ChimeraError(f"{place}: {outputs} outputs in {groups} groups; expected a multiple of the groups")

    @property
    def program(self) -> dict[str, Any]:
        """The network without its arrays, as JSON-able data."""
        return {"input_shape": list(self.input_shape), "ops": self.ops}

    @property
    def sha256(self) -> str:
        """Hash of the operations and of every array's name, shape and bytes; independent of how it was saved."""
        digest = hashlib.sha256(json.dumps(self.program, sort_keys=True).encode())
        for name in sorted(self.arrays):
            digest.update(f"{name}{self.arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one .npz, whole or not at all."""
        program = np.frombuffer(json.dumps(self.program).encode(), np.uint8)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, **{executor.PROGRAM: program}, **self.arrays)  # type: ignore[arg-type]
        partial.replace(path)


def load(path: Path) -> Network:
    """Read what ``Network.save`` wrote; ChimeraError if the file is something else or holds a pickle."""
    try:
        program, arrays = executor.read(str(path))
        return Network(program["ops"], arrays, tuple(program["input_shape"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ChimeraError(
            f"{path} is not a saved network ({error}); expected an .npz that Network.save wrote"
        ) from error


def from_torch(module: nn.Module, input_shape: tuple[int, int, int] = (3, 32, 32)) -> Network:
    """Convert a torch module in eval mode, by symbolic tracing (see ``chimera_lib.images.tracing``).

    Raises ChimeraError for a module in training mode, one that cannot be traced, one with an operation that is
    not supported, which the message names, or one that does not take images (C, H, W) of ``input_shape``.
    """
    from chimera_lib.images.tracing import trace

    ops, arrays = trace(module)
    _try_out(module, input_shape)
    return Network(fold_padding(ops), arrays, input_shape)


def _try_out(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Show the module a black image; ChimeraError where it does not take one, or answers with no vector."""
    import torch

    like = next(module.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            shape = tuple(module(torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)).shape)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ChimeraError(
            f"{type(module).__name__} takes no image {input_shape}: {reason}; expected a network for that size"
        ) from error
    if len(shape) != 2:
        raise ChimeraError(f"{type(module).__name__} answers with {shape}; expected logits (1, classes)")


def fold_padding(ops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same operations, but zeros put around what only one convolution reads become that convolution's padding."""
    pads = {op["out"]: op for op in ops if op["op"] == "pad"}
    folded = []
    for op in ops:
        pad = pads.get(op["in"][0])
        if op["op"] == "conv" and pad and sum(pad["out"] in other["in"] for other in ops) == 1:
            sides = zip((pad["padding"] * 2)[:4], (op["padding"] * 2)[:4], strict=True)
            op = {**op, "in": pad["in"], "padding": [a + b for a, b in sides]}
        folded.append(op)
    read = {name for op in folded for name in op["in"]} | {folded[-1]["out"]} if folded else set()
    return [op for op in folded if op["op"] != "pad" or op["out"] in read]


_ONNX = {
    "relu": "Relu",
    "global_avg_pool": "GlobalAveragePool",
    "add": "Add",
    "flatten": "Flatten",
    "clip": "Clip",
    "pad": "Pad",
}
_ONNX_CONSTANT = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def _onnx_extras(op: dict[str, Any]) -> dict[str, np.ndarray]:
    """What ONNX wants as further inputs where an operation here has plain numbers, by name."""
    if op["op"] == "clip":
        return {f"{op['out']}.{side}": np.array(op[side], np.float32) for side in ("min", "max")}
    if op["op"] == "pad":
        (top, left), (bottom, right) = op["padding"][:2], op["padding"][-2:]
        return {f"{op['out']}.pads": np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)}
    return {}


def _unmerged(op: dict[str, Any]) -> list[dict[str, Any]]:
    """The operation, but a pad with a clip after it that clips nothing.

    ONNX Runtime (1.31 does) would merge the pad into a max pool after it, which pads with minus infinity, not zero.
    """
    if op["op"] != "pad":
        return [op]
    largest, inner = float(np.finfo(np.float32).max), f"{op['out']}.padded"
    return [{**op, "out": inner}, {"op": "clip", "in": [inner], "out": op["out"], "min": -largest, "max": largest}]


def _onnx_node(op: dict[str, Any]) -> Any:
    """One operation as an ONNX node."""
    from onnx import helper

    kind, inputs, out = op["op"], [*op["in"], *_onnx_extras(op)], [op["out"]]
    if kind == "constant":
        return helper.make_node(_ONNX_CONSTANT[op["function"]], [*inputs, op["value"]], out)
    if kind == "concat":
        return helper.make_node("Concat", inputs, out, axis=1)
    if kind in _ONNX:
        return helper.make_node(_ONNX[kind], inputs, out)
    if kind in ("conv", "linear"):
        inputs += [op["weight"]] + ([op["bias"]] if op["bias"] else [])
    if kind == "linear":
        return helper.make_node("Gemm", inputs, out, transB=1)
    if kind == "batch_norm":
        inputs += [op[key] for key in ("weight", "bias", "mean", "var")]
        return helper.make_node("BatchNormalization", inputs, out, epsilon=op["eps"])
    sliding = {"strides": op["stride"], "pads": (op["padding"] * 2)[:4]}
    if kind == "conv":
        dilation = {"dilations": op["dilation"]} if "dilation" in op else {}
        return helper.make_node("Conv", inputs, out, group=op["groups"], **sliding, **dilation)
    if kind == "max_pool":
        return helper.make_node("MaxPool", inputs, out, kernel_shape=op["kernel"], **sliding)
    counted = int(op.get("count_include_pad", True))
    return helper.make_node("AveragePool", inputs, out, kernel_shape=op["kernel"], count_include_pad=counted, **sliding)


def to_onnx(network: Network) -> bytes:
    """The network as an ONNX model (opset 17): input ``input`` (1, C, H, W), output the logits (1, classes)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    everything = [op for unmerged in map(_unmerged, network.ops) for op in unmerged]
    nodes = [_onnx_node(op) for op in everything]
    used = {name for node in nodes for name in node.input}
    arrays = network.arrays | {name: array for op in everything for name, array in _onnx_extras(op).items()}
    graph = helper.make_graph(
        nodes,
        "chimera",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, *network.input_shape])],
        [helper.make_tensor_value_info(network.ops[-1]["out"], TensorProto.FLOAT, [1, "classes"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    # IR version 8 belongs to opset 17; onnx's default is newer than some runtimes read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
