"""One operation of a torch module as operations of a ``Network``; ``tracing`` walks the module."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

SUPPORTED = (
    "Conv2d, BatchNorm, ReLU, ReLU6, Hardtanh, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Linear, Flatten, Dropout, "
    "ZeroPad2d, Identity, their functional forms, the sum of two tensors, + - * / with a constant, and cat of channels"
)
Op = dict[str, Any]
Arguments = dict[str, Any]


class Unsupported(Exception):  # noqa: N818  (always turned into a ChimeraError that names the place)
    """Why an operation cannot be converted."""


def pair(value: Any) -> list[int]:
    """torch's size arguments as lists: one number stands for height and width."""
    return [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)] * 2


def need(condition: bool, otherwise: str) -> None:
    """Raise Unsupported where ``condition`` does not hold."""
    if not condition:
        raise Unsupported(otherwise)


class Operations:
    """Collects operations and arrays; one method per kind of operation, which raises Unsupported."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.ops: list[Op] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[fx.Node, str] = {}  # a node of the graph -> the name of the tensor it stands for

    def attribute(self, value: Any) -> Any:
        """A functional call's weight: the module's attribute with its name; anything else as it is."""
        if not (isinstance(value, fx.Node) and value.op == "get_attr"):
            return value
        tensor: Any = self.module
        for part in str(value.target).split("."):
            tensor = getattr(tensor, part)
        return str(value.target), tensor

    def emit(self, node: fx.Node, kind: str, inputs: tuple[Any, ...] | None = None, **attributes: Any) -> None:
        operands = inputs or (node.args[0] if node.args else node.kwargs["input"],)
        for operand in operands:
            known = isinstance(operand, fx.Node) and self.names.get(operand)
            need(bool(known), f"operand {operand!r} is a constant, or no tensor")
        self.names[node] = node.name
        self.ops.append({"op": kind, "in": [self.names[o] for o in operands], "out": node.name, **attributes})

    def array(self, named: tuple[str, torch.Tensor] | None) -> str | None:
        if named is None:
            return None
        name, tensor = named
        self.arrays[name] = tensor.detach().cpu().to(torch.float32).contiguous().numpy().copy()
        return name

    def conv(self, node: fx.Node, a: Arguments) -> None:
        need(a.get("padding_mode", "zeros") == "zeros", f"padding_mode={a.get('padding_mode')}")
        dilation, padding = pair(a["dilation"]), a["padding"]
        if padding == "same":  # torch puts the odd one after
            total = [d * (k - 1) for d, k in zip(dilation, a["weight"][1].shape[2:], strict=True)]
            padding = [t // 2 for t in total] + [t - t // 2 for t in total]
        padding = [0, 0] if padding == "valid" else padding if len(pair(padding)) == 4 else pair(padding)
        sliding = {"stride": pair(a["stride"]), "padding": padding, "groups": a["groups"]}
        if dilation != [1, 1]:
            sliding["dilation"] = dilation
        self.emit(node, "conv", weight=self.array(a["weight"]), bias=self.array(a["bias"]), **sliding)

    def linear(self, node: fx.Node, a: Arguments) -> None:
        self.emit(node, "linear", weight=self.array(a["weight"]), bias=self.array(a["bias"]))

    def batch_norm(self, node: fx.Node, a: Arguments) -> None:
        need(bool(a.get("running_mean")), "no running statistics")
        (name, mean), variance = a["running_mean"], a["running_var"]
        parts = {
            "weight": a["weight"] or (f"{name}.ones", torch.ones_like(mean)),
            "bias": a["bias"] or (f"{name}.zeros", torch.zeros_like(mean)),
            "mean": (name, mean),
            "var": variance,
        }
        arrays: dict[str, Any] = {key: self.array(part) for key, part in parts.items()}
        self.emit(node, "batch_norm", **arrays, eps=float(a["eps"]))

    def pool(self, node: fx.Node, kind: str, a: Arguments, **more: bool) -> None:
        need(not a["ceil_mode"], "ceil_mode=True")
        need(not a.get("return_indices"), "return_indices=True")
        need(pair(a.get("dilation", 1)) == [1, 1], f"dilation={a.get('dilation')}")
        stride = a["stride"] or a["kernel_size"]
        sliding: Arguments = {"kernel": pair(a["kernel_size"]), "stride": pair(stride), "padding": pair(a["padding"])}
        self.emit(node, kind, **(sliding | more))

    def max_pool(self, node: fx.Node, a: Arguments) -> None:
        self.pool(node, "max_pool", a)

    def avg_pool(self, node: fx.Node, a: Arguments) -> None:
        need(a["divisor_override"] is None, "divisor_override is set")
        everything = bool(a["count_include_pad"]) or pair(a["padding"]) == [0, 0]
        self.pool(node, "avg_pool", a, **({} if everything else {"count_include_pad": False}))

    def global_pool(self, node: fx.Node, a: Arguments) -> None:
        need(pair(a["output_size"]) == [1, 1], f"output size {a['output_size']}; expected 1")
        self.emit(node, "global_avg_pool")

    def flatten(self, node: fx.Node, a: Arguments) -> None:
        start, end = a.get("start_dim", 0), a.get("end_dim", -1)
        need((start, end) == (1, -1), f"flatten from {start} to {end}; expected from 1 to the last")
        self.emit(node, "flatten")

    def relu(self, node: fx.Node, _: Arguments) -> None:
        self.emit(node, "relu")

    def clamp(self, node: fx.Node, a: Arguments) -> None:
        largest = float(torch.finfo(torch.float32).max)  # stands for a bound that is not there
        bounds = []
        for keys, otherwise in ((("min_val", "min"), -largest), (("max_val", "max"), largest)):
            bound = next((a[key] for key in keys if a.get(key) is not None), otherwise)
            need(isinstance(bound, (int, float)), f"bound {bound!r}; expected a number")
            bounds.append(float(bound))
        self.emit(node, "clip", min=bounds[0], max=bounds[1])

    def relu6(self, node: fx.Node, _: Arguments) -> None:
        self.emit(node, "clip", min=0.0, max=6.0)

    def zero_pad(self, node: fx.Node, a: Arguments) -> None:
        """torch's order of the sides is left, right, top, bottom; a tensor's other axes stay as they are."""
        around: Any = a.get("pad", a.get("padding"))
        need(a.get("mode", "constant") == "constant" and not a.get("value"), "padding other than with zeros")
        plain = isinstance(around, (tuple, list)) and all(isinstance(p, int) and p >= 0 for p in around)
        need(plain and len(around) in (2, 4), f"padding {around}; expected two or four numbers from 0")
        left, right, top, bottom = (*around, 0, 0)[:4]
        self.emit(node, "pad", padding=[top, left, bottom, right])

    def concat(self, node: fx.Node, a: Arguments) -> None:
        need(a["dim"] in (1, -3), f"cat along dimension {a['dim']}; expected 1, the channels")
        self.emit(node, "concat", tuple(a["tensors"]))

    def arithmetic(self, node: fx.Node, function: str) -> None:
        """The sum of two tensors; or a tensor and a number, parameter or buffer."""
        need(len(node.args) == 2 and not node.kwargs, f"a scaled {function}")
        tensors = [bool(isinstance(x, fx.Node) and self.names.get(x)) for x in node.args]
        if all(tensors):
            need(function == "add", f"{function} of two tensors")
            self.emit(node, "add", node.args)
            return
        x, constant = node.args if tensors[0] else node.args[::-1]
        constant = self.attribute(constant)
        if isinstance(constant, (int, float)):
            constant = f"{node.name}.value", torch.tensor(float(constant))
        need(isinstance(constant, tuple), f"{function} with {constant!r}")
        name, value = constant
        if value.ndim == 4 and len(value) == 1:
            value = value[0]
        need(value.ndim < 4, f"a constant of shape {tuple(value.shape)}; expected (C, 1, 1) or the like")
        need(tensors[0] or function != "div", "division by a tensor")
        self.emit(node, "constant", (x,), function=function, value=self.array((name, value)))
        if not tensors[0] and function == "sub":  # constant - x is x * -1 + constant, to the bit
            minus, last = self.array((f"{node.name}.minus", torch.tensor(-1.0))), self.ops[-1]
            first = {**last, "out": f"{node.name}_negative", "function": "mul", "value": minus}
            self.ops[-1:] = [first, {**last, "in": [first["out"]], "function": "add"}]

    def nothing(self, node: fx.Node, _: Arguments) -> None:
        source = node.args[0] if node.args else node.kwargs["input"]
        self.names[node] = self.names[source]  # type: ignore[index]


MODULES: list[tuple[Any, Callable[[Operations, fx.Node, Arguments], None]]] = [
    (nn.Conv2d, Operations.conv),
    (nn.Linear, Operations.linear),
    ((nn.BatchNorm1d, nn.BatchNorm2d), Operations.batch_norm),
    (nn.ReLU, Operations.relu),
    (nn.ReLU6, Operations.relu6),  # before Hardtanh, of which it is a kind
    (nn.Hardtanh, Operations.clamp),
    ((nn.ZeroPad2d, nn.ConstantPad2d), Operations.zero_pad),
    (nn.MaxPool2d, Operations.max_pool),
    (nn.AvgPool2d, Operations.avg_pool),
    (nn.AdaptiveAvgPool2d, Operations.global_pool),
    (nn.Flatten, Operations.flatten),
    ((nn.Dropout, nn.Dropout2d, nn.Identity), Operations.nothing),
]
X: Arguments = {"input": None}
CONV = {**X, "weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
NORM = {**X, "running_mean": None, "running_var": None, "weight": None, "bias": None, "training": False}
POOL = {**X, "kernel_size": None, "stride": None, "padding": 0}
# torch's functions with their arguments in order and the defaults that they have there.
FUNCTIONS: list[tuple[Any, Callable[[Operations, fx.Node, Arguments], None], Arguments]] = [
    (F.conv2d, Operations.conv, CONV),
    (F.linear, Operations.linear, {**X, "weight": None, "bias": None}),
    (F.batch_norm, Operations.batch_norm, {**NORM, "momentum": 0.1, "eps": 1e-5}),
    (F.relu, Operations.relu, X),
    (torch.relu, Operations.relu, X),
    (F.max_pool2d, Operations.max_pool, {**POOL, "dilation": 1, "ceil_mode": False, "return_indices": False}),
    (
        F.avg_pool2d,
        Operations.avg_pool,
        {**POOL, "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    ),
    (F.adaptive_avg_pool2d, Operations.global_pool, {**X, "output_size": None}),
    (torch.flatten, Operations.flatten, {**X, "start_dim": 0, "end_dim": -1}),
    (F.dropout, Operations.nothing, X),
    (F.relu6, Operations.relu6, X),
    (F.hardtanh, Operations.clamp, {**X, "min_val": -1.0, "max_val": 1.0}),
    (torch.clamp, Operations.clamp, {**X, "min": None, "max": None}),
    (torch.clip, Operations.clamp, {**X, "min": None, "max": None}),
    (F.pad, Operations.zero_pad, {**X, "pad": None, "mode": "constant", "value": None}),
    (torch.cat, Operations.concat, {"tensors": (), "dim": 0}),
    (torch.concat, Operations.concat, {"tensors": (), "dim": 0}),
]
ARITHMETIC: dict[Any, str] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add), "add"),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub), "sub"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), "mul"),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div), "div"),
}
