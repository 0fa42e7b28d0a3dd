"""From a torch module to the operations of a ``Network``, by symbolic tracing with ``torch.fx``."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.images.operations import ARITHMETIC, FUNCTIONS, MODULES, SUPPORTED, Operations, Unsupported, need

if TYPE_CHECKING:
    import numpy as np


def trace(module: nn.Module) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
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
    converter = _Walk(module)
    for node in graph.nodes:
        try:
            converter.convert(node)
        except Unsupported as why:
            kind = f" ({type(module.get_submodule(node.target)).__name__})" if node.op == "call_module" else ""
            raise ChimeraError(f"cannot convert {node.target}{kind}: {why}; supported: {SUPPORTED}") from None
    return converter.ops, converter.arrays


class _Walk(Operations):
    """Finds the method of ``Operations`` for each node of a traced graph."""

    def convert(self, node: fx.Node) -> None:
        """Turn one node of the graph into an operation; raises Unsupported."""
        if node.op == "placeholder":
            need(not self.names, "a second input")
            self.names[node] = "input"
        elif node.op == "output":
            result = node.args[0]
            need(isinstance(result, fx.Node), "the output is not a single tensor")
            need(bool(self.ops) and self.names[result] == self.ops[-1]["out"], "its last operation is not its output")  # type: ignore[index]
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
        if node.target in ARITHMETIC:
            self.arithmetic(node, ARITHMETIC[node.target])
            return
        if node.target in (getattr, operator.getitem):
            self.names[node] = ""  # a shape: only used as an argument of view
            return
        for function, method, signature in FUNCTIONS:
            if node.target is function:
                given = dict(zip(signature, node.args, strict=False)) | node.kwargs
                method(self, node, {key: self.attribute(value) for key, value in (signature | given).items()})
                return
        raise Unsupported("there is no such operation here")

    def _method(self, node: fx.Node) -> None:
        """Tensor methods: flatten(1), relu(), clamp(), add(y), view or reshape (n, -1), mean over the image, size()."""
        rest = node.args[1:]
        if node.target == "size":
            self.names[node] = ""  # only used as the first argument of view
        elif node.target in ("view", "reshape"):
            need(rest[1:] == (-1,), f"shape {rest}; expected (batch, -1)")
            self.emit(node, "flatten")
        elif node.target == "flatten":
            self.flatten(node, dict(zip(("start_dim", "end_dim"), rest, strict=False)) | node.kwargs)
        elif node.target in ("relu", "relu_"):
            self.emit(node, "relu")
        elif str(node.target).rstrip("_") in ("clamp", "clip"):
            self.clamp(node, dict(zip(("min", "max"), rest, strict=False)) | node.kwargs)
        elif str(node.target).rstrip("_") in ("add", "sub", "mul", "div"):
            self.arithmetic(node, str(node.target).rstrip("_"))
        elif node.target == "mean":
            dims = rest[0] if rest else node.kwargs.get("dim")
            keep = rest[1] if len(rest) > 1 else node.kwargs.get("keepdim", False)
            need(dims in ((2, 3), [2, 3], (-2, -1), [-2, -1]), f"mean over {dims}; expected (2, 3)")
            self.emit(node, "global_avg_pool")
            if not keep:
                self.ops.append({"op": "flatten", "in": [node.name], "out": f"{node.name}_flat"})
                self.names[node] = f"{node.name}_flat"
        else:
            raise Unsupported("there is no such operation here")
