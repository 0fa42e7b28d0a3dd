"""What has been read of an ONNX graph so far: its constants, and the operations of a ``Network`` made of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape = tuple[int, ...]


class Unsupported(Exception):  # noqa: N818  (always turned into a ChimeraError that names the node)
    """Why a node cannot be converted."""


def need(condition: bool, otherwise: str) -> None:
    """Raise Unsupported where ``condition`` does not hold."""
    if not condition:
        raise Unsupported(otherwise)


@dataclass(frozen=True)
class Node:
    """One node of the graph; a left-out optional input has the name ''."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """What has been read so far: operations, arrays, and what the file's names stand for."""

    constants: dict[str, np.ndarray]
    last: str  # the file's name for the result
    opset: int  # the version of ONNX's operators
    channels_last: str = ""  # the file's name for its input, where that is (N, H, W, C)
    left_out: str = ""  # the operator behind the logits, where there is one
    ops: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # the file's name for a tensor -> the operation's result
    shapes: dict[str, Shape] = field(default_factory=dict)  # the operation's result -> its shape

    def tensor(self, name: str) -> str:
        """The result that ``name`` stands for; Unsupported where it is a constant."""
        need(name in self.names, f"{name!r} is a constant; expected something computed from the image")
        return self.names[name]

    def shape(self, name: str) -> Shape:
        return self.shapes[self.tensor(name)]

    def image(self, name: str) -> tuple[int, int, int]:
        """The shape (C, H, W) of what has to be an image."""
        shape = self.shape(name)
        need(len(shape) == 3, f"its input has shape {('N', *shape)}; expected (N, C, H, W)")
        return shape[0], shape[1], shape[2]

    def constant(self, node: Node, place: int) -> np.ndarray:
        """The constant at one of the node's inputs."""
        need(len(node.inputs) > place, f"{len(node.inputs)} inputs; expected at least {place + 1}")
        name = node.inputs[place]
        need(name in self.constants, f"input {name!r} is computed from the image; expected a constant")
        return self.constants[name]

    def optional(self, node: Node, place: int) -> np.ndarray | None:
        """The same, or None where that input is left out."""
        return self.constant(node, place) if len(node.inputs) > place and node.inputs[place] else None

    def array(self, name: str, value: np.ndarray) -> str:
        """Keep float32 parameters; returns the array's name in the network."""
        need(value.dtype == np.float32, f"{name!r} is {value.dtype}; expected float32 (export the model in float32)")
        kept = "array." + name.strip("/").replace("/", ".")  # an archive's entries are called so
        while kept in self.arrays and not np.array_equal(self.arrays[kept], value):
            kept += "_"
        self.arrays[kept] = np.array(value, order="C")
        return kept

    def step(self, kind: str, inputs: Sequence[str], out: str, shape: Shape, **attributes: Any) -> str:
        """Append an operation on results; returns its result's name, ``out`` or like it."""
        while out in self.shapes:
            out += "_"
        self.ops.append({"op": kind, "in": list(inputs), "out": out, **attributes})
        self.shapes[out] = shape
        return out

    def emit(self, node: Node, kind: str, shape: Shape, **attributes: Any) -> None:
        """Append an operation on the node's first input, for the node's result."""
        source = self.tensor(node.inputs[0])
        self.names[node.outputs[0]] = self.step(kind, [source], node.outputs[0], shape, **attributes)

    def same(self, node: Node) -> None:
        """The node's result is its first input."""
        self.names[node.outputs[0]] = self.tensor(node.inputs[0])
