"""From a torch module to the operations of a ``Network``, by symbolic tracing with ``torch.fx``."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

SUPPORTED = (
    "Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Linear, Flatten, Dropout, Identity, "
    "their functional forms, and the sum of two tensors"
)
Op = dict[str, Any]
Arguments = dict[str, Any]


class Unsupported(Exception):  # noqa: N818  (always turned into a ChimeraError that names the place)
    """Why an operation cannot be converted."""


def trace(module: nn.Module) -> tuple[list[Op], dict[str, np.ndarray]]:
    """The operations and float32 arrays of ``module``; see ``network.from_torch`` for the errors."""
    if any(part.training for part in module.modules()):
        raise ChimeraError(f"{type(module).__name__} is in training mode; expected eval mode: call .eval() first")
    try:
        graph = fx.symbolic_trace(module).graph
    except (fx.proxy.TraceError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ChimeraError(
            f"cannot trace {type(module).__name__}: {reason}; expected a plain feed-forward module"
        ) from error
    converter = _Converter(module)
    for node in graph.nodes:
        try:
            converter.convert(node)
        except Unsupported as why:
            kind = f" ({type(module.get_submodule(node.target)).__name__})" if node.op == "call_module" else ""
            raise ChimeraError(f"cannot convert {node.target}{kind}: {why}; supported: {SUPPORTED}") from None
    return converter.ops, converter.arrays


def _pair(value: Any) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)] * 2


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Unsupported(otherwise)


class _Converter:
    """Collects operations and arrays while a traced graph is walked; one method per kind of operation."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.ops: list[Op] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[fx.Node, str] = {}  # a node of the graph -> the name of the tensor it stands for

    def convert(self, node: fx.Node) -> None:
        """Turn one node of the graph into an operation; raises Unsupported."""
        if node.op == "placeholder":
            _need(not self.names, "a second input")
            self.names[node] = "input"
        elif node.op == "output":
            result = node.args[0]
            _need(isinstance(result, fx.Node), "the output is not a single tensor")
            _need(bool(self.ops) and self.names[result] == self.ops[-1]["out"], "its last operation is not its output")  # type: ignore[index]
        elif node.op == "call_module":
            self._module(node, self.module.get_submodule(str(node.target)))
        elif node.op == "call_function":
            self._function(node)
        elif node.op == "call_method":
            self._method(node)
        # get_attr: weights of functional calls are read where they are used.

    def _module(self, node: fx.Node, layer: nn.Module) -> None:
        """A layer's attributes carry the names of the functional form's arguments, so both share the methods below."""
        for kinds, method in MODULES:
            if isinstance(layer, kinds):
                weights = {k: (f"{node.target}.{k}", v) for k, v in layer.named_parameters() if k in ("weight", "bias")}
                weights |= {k: (f"{node.target}.{k}", v) for k, v in layer.named_buffers() if k.startswith("running_")}
                method(self, node, {"bias": None, "weight": None, **vars(layer), **weights})
                return
        raise Unsupported("there is no such operation here")

    def _function(self, node: fx.Node) -> None:
        if node.target in (operator.add, operator.iadd, torch.add):
            self._add(node, {})
            return
        for function, method, signature in FUNCTIONS:
            if node.target is function:
                given = dict(zip(signature, node.args, strict=False)) | node.kwargs
                method(self, node, {key: self._attribute(value) for key, value in (signature | given).items()})
                return
        raise Unsupported("there is no such operation here")

    def _method(self, node: fx.Node) -> None:
        """Tensor methods: flatten(1), relu(), add(y), view or reshape (n, -1), mean over height and width, size()."""
        rest = node.args[1:]
        if node.target == "size":
            self.names[node] = ""  # only used as the first argument of view
        elif node.target in ("view", "reshape"):
            _need(rest[1:] == (-1,), f"shape {rest}; expected (batch, -1)")
            self._emit(node, "flatten")
        elif node.target == "flatten":
            self._flatten(node, dict(zip(("start_dim", "end_dim"), rest, strict=False)) | node.kwargs)
        elif node.target in ("relu", "relu_"):
            self._emit(node, "relu")
        elif node.target in ("add", "add_"):
            self._add(node, {})
        elif node.target == "mean":
            dims = rest[0] if rest else node.kwargs.get("dim")
            keep = rest[1] if len(rest) > 1 else node.kwargs.get("keepdim", False)
            _need(dims in ((2, 3), [2, 3], (-2, -1), [-2, -1]), f"mean over {dims}; expected (2, 3)")
            self._emit(node, "global_avg_pool")
            if not keep:
                self.ops.append({"op": "flatten", "in": [node.name], "out": f"{node.name}_flat"})
                self.names[node] = f"{node.name}_flat"
        else:
            raise Unsupported("there is no such operation here")

    def _attribute(self, value: Any) -> Any:
        """A functional call's weight: the module's attribute with its name; anything else as it is."""
        if not (isinstance(value, fx.Node) and value.op == "get_attr"):
            return value
        tensor: Any = self.module
        for part in str(value.target).split("."):
            tensor = getattr(tensor, part)
        return str(value.target), tensor

    def _emit(self, node: fx.Node, kind: str, inputs: tuple[Any, ...] | None = None, **attributes: Any) -> None:
        operands = inputs or (node.args[0] if node.args else node.kwargs["input"],)
        for operand in operands:
            _need(isinstance(operand, fx.Node) and operand in self.names, f"operand {operand!r} is a constant")
        self.names[node] = node.name
        self.ops.append({"op": kind, "in": [self.names[o] for o in operands], "out": node.name, **attributes})

    def _array(self, named: tuple[str, torch.Tensor] | None) -> str | None:
        if named is None:
            return None
        name, tensor = named
        self.arrays[name] = tensor.detach().cpu().to(torch.float32).contiguous().numpy().copy()
        return name

    def _conv(self, node: fx.Node, a: Arguments) -> None:
        _need(a.get("padding_mode", "zeros") == "zeros", f"padding_mode={a.get('padding_mode')}")
        _need(not isinstance(a["padding"], str), f"padding={a['padding']!r}; expected numbers")
        _need(_pair(a["dilation"]) == [1, 1], f"dilation={a['dilation']}")
        sliding = {"stride": _pair(a["stride"]), "padding": _pair(a["padding"]), "groups": a["groups"]}
        self._emit(node, "conv", weight=self._array(a["weight"]), bias=self._array(a["bias"]), **sliding)

    def _linear(self, node: fx.Node, a: Arguments) -> None:
        self._emit(node, "linear", weight=self._array(a["weight"]), bias=self._array(a["bias"]))

    def _batch_norm(self, node: fx.Node, a: Arguments) -> None:
        _need(bool(a.get("running_mean")), "no running statistics")
        (name, mean), variance = a["running_mean"], a["running_var"]
        parts = {
            "weight": a["weight"] or (f"{name}.ones", torch.ones_like(mean)),
            "bias": a["bias"] or (f"{name}.zeros", torch.zeros_like(mean)),
            "mean": (name, mean),
            "var": variance,
        }
        arrays: dict[str, Any] = {key: self._array(part) for key, part in parts.items()}
        self._emit(node, "batch_norm", **arrays, eps=float(a["eps"]))

    def _pool(self, node: fx.Node, kind: str, a: Arguments) -> None:
        _need(not a["ceil_mode"], "ceil_mode=True")
        _need(not a.get("return_indices"), "return_indices=True")
        _need(_pair(a.get("dilation", 1)) == [1, 1], f"dilation={a.get('dilation')}")
        stride = a["stride"] or a["kernel_size"]
        self._emit(node, kind, kernel=_pair(a["kernel_size"]), stride=_pair(stride), padding=_pair(a["padding"]))

    def _max_pool(self, node: fx.Node, a: Arguments) -> None:
        self._pool(node, "max_pool", a)

    def _avg_pool(self, node: fx.Node, a: Arguments) -> None:
        _need(a["divisor_override"] is None, "divisor_override is set")
        _need(bool(a["count_include_pad"]) or _pair(a["padding"]) == [0, 0], "count_include_pad=False")
        self._pool(node, "avg_pool", a)

    def _global_pool(self, node: fx.Node, a: Arguments) -> None:
        _need(_pair(a["output_size"]) == [1, 1], f"output size {a['output_size']}; expected 1")
        self._emit(node, "global_avg_pool")

    def _flatten(self, node: fx.Node, a: Arguments) -> None:
        start, end = a.get("start_dim", 0), a.get("end_dim", -1)
        _need((start, end) == (1, -1), f"flatten from {start} to {end}; expected from 1 to the last")
        self._emit(node, "flatten")

    def _relu(self, node: fx.Node, _: Arguments) -> None:
        self._emit(node, "relu")

    def _add(self, node: fx.Node, _: Arguments) -> None:
        _need(len(node.args) == 2 and not node.kwargs, "a scaled sum")
        self._emit(node, "add", node.args)

    def _nothing(self, node: fx.Node, _: Arguments) -> None:
        source = node.args[0] if node.args else node.kwargs["input"]
        self.names[node] = self.names[source]  # type: ignore[index]


MODULES: list[tuple[Any, Callable[[_Converter, fx.Node, Arguments], None]]] = [
    (nn.Conv2d, _Converter._conv),
    (nn.Linear, _Converter._linear),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _Converter._batch_norm),
    (nn.ReLU, _Converter._relu),
    (nn.MaxPool2d, _Converter._max_pool),
    (nn.AvgPool2d, _Converter._avg_pool),
    (nn.AdaptiveAvgPool2d, _Converter._global_pool),
    (nn.Flatten, _Converter._flatten),
    ((nn.Dropout, nn.Dropout2d, nn.Identity), _Converter._nothing),
]
X: Arguments = {"input": None}
CONV = {**X, "weight": None, "bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
NORM = {**X, "running_mean": None, "running_var": None, "weight": None, "bias": None, "training": False}
POOL = {**X, "kernel_size": None, "stride": None, "padding": 0}
# torch's functions with their arguments in order and the defaults that they have there.
FUNCTIONS: list[tuple[Any, Callable[[_Converter, fx.Node, Arguments], None], Arguments]] = [
    (F.conv2d, _Converter._conv, CONV),
    (F.linear, _Converter._linear, {**X, "weight": None, "bias": None}),
    (F.batch_norm, _Converter._batch_norm, {**NORM, "momentum": 0.1, "eps": 1e-5}),
    (F.relu, _Converter._relu, X),
    (torch.relu, _Converter._relu, X),
    (F.max_pool2d, _Converter._max_pool, {**POOL, "dilation": 1, "ceil_mode": False, "return_indices": False}),
    (
        F.avg_pool2d,
        _Converter._avg_pool,
        {**POOL, "ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    ),
    (F.adaptive_avg_pool2d, _Converter._global_pool, {**X, "output_size": None}),
    (torch.flatten, _Converter._flatten, {**X, "start_dim": 0, "end_dim": -1}),
    (F.dropout, _Converter._nothing, X),
]
