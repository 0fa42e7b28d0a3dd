"""One ONNX operator as operations of a ``Network``; ``onnx`` reads the file and walks its graph.

What each operator computes: https://onnx.ai/onnx/operators. Shapes here are those of one image, without the batch:
(C, H, W), or (N,) for a vector.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.onnx_graph import Graph, Node, Shape, need

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LARGEST = float(np.finfo(np.float32).max)  # stands for a bound that is not there


def sides(
    node: Node, size: Shape, kernel: Sequence[int], ceil: bool = False
) -> tuple[dict[str, list[int]], Shape, bool]:
    """Stride and padding [top, left, bottom, right] of a sliding window over height and width ``size``.

    Returns them, the result's height and width, and whether rounding up made the padding larger than what the file
    says.
    """
    a = node.attributes
    stride, dilation = list(a.get("strides", [1, 1])), list(a.get("dilations", [1, 1]))
    need(len(size) == len(kernel) == len(stride) == 2, f"a window {list(kernel)}; expected height and width")
    for what, numbers in (("kernel_shape", kernel), ("strides", stride), ("dilations", dilation)):
        need(len(numbers) == 2 and min(numbers) >= 1, f"{what} {list(numbers)}; expected two of at least 1")
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    automatic, pads = a.get("auto_pad", "NOTSET"), list(a.get("pads", [0, 0, 0, 0]))
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, s, r in zip(size, stride, reach, strict=True)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = less + more if automatic == "SAME_UPPER" else more + less
    elif automatic == "VALID":
        pads = [0, 0, 0, 0]
    else:
        need(automatic == "NOTSET", f"auto_pad {automatic}")
    need(len(pads) == 4 and min(pads) >= 0, f"pads {pads}; expected four, none below 0")
    result, larger = [], False
    for axis in range(2):
        room = size[axis] + pads[axis] + pads[axis + 2] - reach[axis]
        need(room >= 0, f"a window of {reach[axis]} on {size[axis]} pixels")
        missing = -room % stride[axis] if ceil else 0
        if missing:
            start = (room + missing) // stride[axis] * stride[axis]
            need(start < size[axis] + pads[axis], "ceil_mode with a last window that sees only padding")
            pads[axis + 2] += missing
            larger = True
        result.append((room + missing) // stride[axis] + 1)
    return {"stride": stride, "padding": pads}, tuple(result), larger


def conv(g: Graph, node: Node) -> None:
    weight, bias, groups = g.constant(node, 1), g.optional(node, 2), node.attributes.get("group", 1)
    channels, *size = g.image(node.inputs[0])
    need(weight.ndim == 4 and weight.shape[1] * groups == channels, f"weights {weight.shape} on {channels} channels")
    need(len(weight) % groups == 0, f"{len(weight)} outputs in {groups} groups; expected a multiple of {groups}")
    if bias is not None:
        need(bias.shape == weight.shape[:1], f"a bias {bias.shape}; expected {weight.shape[:1]}")
    sliding, result, _ = sides(node, tuple(size), weight.shape[2:])
    dilation = list(node.attributes.get("dilations", [1, 1]))
    more = {} if dilation == [1, 1] else {"dilation": dilation}
    names = [g.array(node.inputs[1], weight), None if bias is None else g.array(node.inputs[2], bias)]
    shape = (len(weight), *result)
    g.emit(node, "conv", shape, weight=names[0], bias=names[1], **sliding, groups=groups, **more)


def pool(g: Graph, node: Node) -> None:
    """MaxPool and AveragePool."""
    a, (channels, *size) = node.attributes, g.image(node.inputs[0])
    need(list(a.get("dilations", [1, 1])) == [1, 1], f"dilations {a.get('dilations')}")
    need("kernel_shape" in a, "no kernel_shape; expected height and width")
    kernel = list(a["kernel_shape"])
    sliding, result, larger = sides(node, tuple(size), kernel, bool(a.get("ceil_mode", 0)))
    more, kind = {}, "max_pool"
    if node.kind == "AveragePool":
        kind, counted = "avg_pool", bool(a.get("count_include_pad", 0))
        need(not (counted and larger), "ceil_mode together with count_include_pad")
        if not counted and any(sliding["padding"]):
            more = {"count_include_pad": False}
    g.emit(node, kind, (channels, *result), kernel=kernel, **sliding, **more)


def global_average(g: Graph, node: Node) -> None:
    g.emit(node, "global_avg_pool", (g.image(node.inputs[0])[0], 1, 1))


def global_maximum(g: Graph, node: Node) -> None:
    channels, *size = g.image(node.inputs[0])
    g.emit(node, "max_pool", (channels, 1, 1), kernel=size, stride=[1, 1], padding=[0, 0])


def reduce_mean(g: Graph, node: Node) -> None:
    channels, *_ = g.image(node.inputs[0])
    given = g.optional(node, 1)
    axes = node.attributes.get("axes", []) if given is None else given.tolist()
    need(
        sorted(axis % 4 for axis in axes) == [2, 3], f"the mean over axes {list(axes)}; expected height and width, 2, 3"
    )
    global_average(g, node)
    if not node.attributes.get("keepdims", 1):
        pooled = g.names[node.outputs[0]]
        g.names[node.outputs[0]] = g.step("flatten", [pooled], f"{pooled}_flat", (channels,))


def linear(g: Graph, source: str, name: str, weight: np.ndarray) -> str:
    """The product of a vector with ``weight`` (K, N)."""
    shape = g.shapes[source]
    need(weight.ndim == 2 and shape == weight.shape[:1], f"a product of {('N', *shape)} and {weight.shape}")
    kept = g.array(f"{name}.T", weight.T)
    return g.step("linear", [source], f"{name}.product", weight.shape[1:], weight=kept, bias=None)


def matmul(g: Graph, node: Node) -> None:
    product = linear(g, g.tensor(node.inputs[0]), node.inputs[1], g.constant(node, 1))
    g.names[node.outputs[0]] = product


def gemm(g: Graph, node: Node) -> None:
    """``alpha`` A B + ``beta`` C, A being the vector; the bias is part of the product only where nothing scales it."""
    a, weight, bias = node.attributes, g.constant(node, 1), g.optional(node, 2)
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    need(not a.get("transA", 0), "transA=1: its first input is transposed")
    result = linear(g, g.tensor(node.inputs[0]), node.inputs[1], weight.T if a.get("transB", 0) else weight)
    size = g.shapes[result]
    if alpha != 1:
        result = scaled(g, result, "mul", f"{result}.alpha", np.float32(alpha))
    if bias is not None and beta != 0:
        need(np.broadcast_shapes((1, *size), bias.shape) == (1, *size), f"a bias {bias.shape} on {('N', *size)}")
        bias = bias if beta == 1 else bias * np.float32(beta)
        if alpha == 1 and bias.size == size[0]:
            g.ops[-1]["bias"] = g.array(node.inputs[2], bias.reshape(size))
        else:
            result = scaled(g, result, "add", f"{result}.beta", bias)
    g.names[node.outputs[0]] = result


def batch_norm(g: Graph, node: Node) -> None:
    a, keys = node.attributes, ("weight", "bias", "mean", "var")
    need(not a.get("training_mode", 0), "training_mode=1; expected a model exported for inference")
    need(a.get("spatial", 1) == 1, "spatial=0")
    arrays = {key: g.array(node.inputs[place], g.constant(node, place)) for place, key in enumerate(keys, 1)}
    for key, name in arrays.items():
        shape, expected = g.arrays[name].shape, g.shape(node.inputs[0])[:1]
        need(shape == expected, f"{key} {shape}; expected {expected}, one a channel")
    g.emit(node, "batch_norm", g.shape(node.inputs[0]), **arrays, eps=float(a.get("epsilon", 1e-5)))


def relu(g: Graph, node: Node) -> None:
    g.emit(node, "relu", g.shape(node.inputs[0]))


def clip(g: Graph, node: Node) -> None:
    """The bounds are attributes up to opset 10, inputs since."""
    bounds = {}
    for place, (key, otherwise) in enumerate((("min", -LARGEST), ("max", LARGEST)), 1):
        given = g.optional(node, place)
        bounds[key] = float(node.attributes.get(key, otherwise) if given is None else given.reshape(())[()])
    g.emit(node, "clip", g.shape(node.inputs[0]), **bounds)


def scaled(g: Graph, source: str, function: str, name: str, value: np.ndarray | np.float32) -> str:
    """A result and a constant that broadcasts over it."""
    value, shape = np.asarray(value), g.shapes[source]
    try:
        fits = np.broadcast_shapes((1, *shape), value.shape) == (1, *shape)
    except ValueError:
        fits = False
    need(fits, f"a constant {value.shape} does not broadcast over {('N', *shape)}")
    value = value.reshape(value.shape[-len(shape) :]) if value.ndim > len(shape) else value
    return g.step("constant", [source], f"{source}.{function}", shape, function=function, value=g.array(name, value))


def arithmetic(g: Graph, node: Node) -> None:
    """Add, Sum, Sub, Mul, Div: sums of tensors of one shape, and anything with a constant but to divide it."""
    function = {"Sum": "add"}.get(node.kind, node.kind.lower())
    moving = [name for name in node.inputs if name in g.names]
    fixed = [name for name in node.inputs if name not in g.names]
    for name in fixed:
        need(name in g.constants, f"input {name!r} is not known")
    need(len(moving) == 1 or function == "add", f"{node.kind} of two tensors; expected a constant")
    result = g.names[moving[0]]
    for other in moving[1:]:
        one, two = g.shapes[result], g.shape(other)
        need(one == two, f"a sum of {('N', *one)} and {('N', *two)}; expected one shape")
        result = g.step("add", [result, g.names[other]], node.outputs[0], one)
    for name in fixed:
        applied = function
        if node.inputs[0] == name and function in ("sub", "div"):  # constant - x is x * -1 + constant, to the bit
            need(function == "sub", "division by a tensor; expected a constant")
            result, applied = scaled(g, result, "mul", "minus one", np.float32(-1)), "add"
        result = scaled(g, result, applied, name, g.constants[name])
    g.names[node.outputs[0]] = result


def flatten(g: Graph, node: Node) -> None:
    """Flatten, Reshape and Squeeze to (N, everything); or what changes nothing."""
    shape = g.shape(node.inputs[0])
    rank, count = len(shape) + 1, math.prod(shape)
    if node.kind == "Flatten":
        axis = node.attributes.get("axis", 1)
        need(axis % rank == 1, f"axis {axis}; expected 1")
        target: Shape = (count,)
    elif node.kind == "Squeeze":
        given = g.optional(node, 1)
        axes = node.attributes.get("axes", [0]) if given is None else given.tolist()
        need(0 not in [axis % rank for axis in axes], f"axes {axes}; expected some after the batch")
        target = tuple(n for axis, n in enumerate(shape, 1) if axis not in [a % rank for a in axes])
    else:
        wanted = g.constant(node, 1).tolist()
        need(len(wanted) > 1 and wanted[0] in (0, 1, -1), f"shape {wanted}; expected (N, -1)")
        target = tuple(shape[axis] if n == 0 and axis < len(shape) else n for axis, n in enumerate(wanted[1:]))
        known = math.prod(n for n in target if n > 0)
        target = tuple(count // known if n == -1 else n for n in target)
    if target == shape:
        g.same(node)
        return
    if math.prod(target) == count == max(shape) == max(target):  # only axes of size 1 come, go or move
        target = (count,)
    need(target == (count,), f"from {('N', *shape)} to {('N', *target)}; expected (N, {count})")
    g.emit(node, "flatten", target)


def concat(g: Graph, node: Node) -> None:
    shapes = [g.image(name) for name in node.inputs]
    axis = node.attributes.get("axis", 0)  # an attribute that has to be there; 0 is refused
    need(axis % 4 == 1, f"axis {axis}; expected 1, the channels")
    need(len({shape[1:] for shape in shapes}) == 1, f"images of different sizes {shapes}")
    total = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    out = g.step("concat", [g.names[name] for name in node.inputs], node.outputs[0], total)
    g.names[node.outputs[0]] = out


def pad(g: Graph, node: Node) -> None:
    """The pads are an attribute up to opset 10, an input since; opset 18 may name axes."""
    a, (channels, height, width) = node.attributes, g.image(node.inputs[0])
    need(a.get("mode", "constant") == "constant", f"mode {a.get('mode')}; expected constant")
    given, value, axes = g.optional(node, 1), g.optional(node, 2), g.optional(node, 3)
    need(not (a.get("value", 0.0) if value is None else value.any()), "a value other than zero")
    pads = list(a.get("pads", []) if given is None else given.tolist())
    places = list(range(4)) if axes is None else [axis % 4 for axis in axes.tolist()]
    need(len(pads) == 2 * len(places), f"{len(pads)} pads; expected {2 * len(places)}, two an axis")
    before = dict(zip(places, pads, strict=False))
    after = dict(zip(places, pads[len(places) :], strict=True))
    need(not (before.get(0) or before.get(1) or after.get(0) or after.get(1)), "padding of the batch or of channels")
    around = [before.get(2, 0), before.get(3, 0), after.get(2, 0), after.get(3, 0)]
    need(min(around) >= 0, f"pads {around}; expected none below 0")
    g.emit(node, "pad", (channels, height + around[0] + around[2], width + around[1] + around[3]), padding=around)


def nothing(g: Graph, node: Node) -> None:
    """Identity, and what is one in a network at rest."""
    if node.kind == "Transpose":
        order, shape = list(node.attributes.get("perm", [])), g.shape(node.inputs[0])
        if order[:1] == [0] and math.prod(shape) == max(shape):  # only axes of size 1 move: a vector
            g.emit(node, "flatten", (max(shape),))
            return
        need(order == sorted(order) and bool(order), f"perm {order}: the axes are reordered")
    if node.kind == "Cast":
        need(node.attributes["to"] == 1, "to another type than float32")
    if node.kind == "Dropout" and len(node.inputs) > 2:
        need(not g.constant(node, 2).any(), "in training mode")
    g.same(node)


def softmax(g: Graph, node: Node) -> None:
    """Only as the very last, over the classes: it keeps their order, and the logits before it are taken."""
    need(node.outputs[0] == g.last, "before the end; expected at the end or not at all")
    axis, rank = node.attributes.get("axis", -1 if g.opset >= 13 else 1), len(g.shape(node.inputs[0])) + 1
    need(axis % rank == 1, f"axis {axis} of {rank}; expected 1, the classes")
    g.left_out = node.kind
    g.same(node)


OPERATORS: dict[str, Callable[[Graph, Node], None]] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "Relu": relu,
    "Clip": clip,
    **dict.fromkeys(("MaxPool", "AveragePool"), pool),
    "GlobalAveragePool": global_average,
    "GlobalMaxPool": global_maximum,
    "ReduceMean": reduce_mean,
    **dict.fromkeys(("Add", "Sum", "Sub", "Mul", "Div"), arithmetic),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), flatten),
    "Concat": concat,
    "Pad": pad,
    **dict.fromkeys(("Identity", "Dropout", "Cast", "Transpose"), nothing),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
}
