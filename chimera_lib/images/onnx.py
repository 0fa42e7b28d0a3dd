"""A user's ONNX image classifier as a ``Network``, whoever exported it.

Its input has to be one image (N, 3 or 1, H, W) of fixed size, float32 in [0, 1]: pixels are ``uint8 / 255``, and a
normalisation belongs into the graph, as Sub, Mul or Div by constants. Channels may also come last, where the graph
first brings them to the front, as what was converted from TensorFlow does. Its output are the logits. A final Softmax
is left out, and the network says so: it keeps the order of the logits, but in float32 it can round those that
differ by their last digits to equal probabilities, of which the lowest class would win. Weights are float32.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.images.network import Network, fold_padding
from chimera_lib.images.onnx_graph import Graph, Node, Unsupported
from chimera_lib.images.onnx_operators import OPERATORS

if TYPE_CHECKING:
    import numpy as np

OLDEST = 7  # opset; before it, Add and Mul broadcast by rules of their own
# What a node that lacks an input or an attribute, or has one of the wrong kind, comes to where it is read.
INVALID = (LookupError, ArithmeticError, ValueError, TypeError, AttributeError)
QUANTISED = ("QLinearConv", "QLinearMatMul", "QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger")


def read(path: Path | str) -> Network:
    """Read a feed-forward classifier from an ONNX file, with weights inside it or in files beside it.

    Constants are computed beforehand, with the batch taken as 1. Raises ChimeraError for a file that is missing or is
    no ONNX model, and for a model that does not fit; the message names the operator, its node, and what is supported.
    """
    path = Path(path)
    model = _load(path)
    graph = model.graph
    constants = _constants(path, graph)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        found = f"{len(inputs)} inputs and {len(graph.output)} outputs"
        raise ChimeraError(f"{path} has {found}; expected one image in and one vector of logits out")
    shape, channels_last = _image_shape(path, inputs[0])
    opset = _opset(path, model)
    read_so_far = Graph(constants, graph.output[0].name, opset)
    if channels_last:
        read_so_far.channels_last = inputs[0].name
    else:
        read_so_far.names[inputs[0].name] = "input"
    read_so_far.shapes["input"] = shape
    for proto in graph.node:
        place = f"{proto.op_type} {proto.name or next(iter(proto.output), '')!r}"
        try:
            _convert(read_so_far, proto, opset)
        except Unsupported as why:
            raise ChimeraError(f"{path}: cannot read {place}: {why}; supported: {', '.join(OPERATORS)}") from None
        except INVALID as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ChimeraError(f"{path}: {place} breaks ONNX's rules ({reason}); export the model anew") from error
    _check(path, model)
    return _network(path, read_so_far, shape)


def _load(path: Path) -> Any:
    """The model with its weights; ChimeraError where there is none."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ChimeraError(f"{path} is not a file; expected an ONNX model")
    try:
        model = onnx.load(str(path))
    except DecodeError as error:
        raise ChimeraError(f"{path} is not an ONNX model ({error}); expected a file that ends in .onnx") from error
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ChimeraError(f"{path}: the weights that lie in files beside it cannot be read ({reason})") from error
    if not model.graph.node:
        raise ChimeraError(f"{path} is not an ONNX model (it holds no graph); expected a file that ends in .onnx")
    return model


def _check(path: Path, model: Any) -> None:
    """Let ONNX's own checker see the model whole; ChimeraError where it breaks the rules.

    Shapes are inferred first: the checker wants the result's, which some exporters leave out and no runtime needs.
    Nor does any runtime insist that weights are listed as inputs too, as files older than IR version 4 had to.
    """
    from onnx import checker, shape_inference

    model.ir_version = max(model.ir_version, 4)
    try:
        checker.check_model(shape_inference.infer_shapes(model, check_type=True, strict_mode=True))
    except (checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        reason = textwrap.shorten(str(error), 300)
        raise ChimeraError(f"{path} is not a valid ONNX model: {reason}; export it anew") from error


def _opset(path: Path, model: Any) -> int:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if opset < OLDEST:
        raise ChimeraError(f"{path} has opset {opset}; expected {OLDEST} or newer: export it anew")
    return int(opset)


def _constants(path: Path, graph: Any) -> dict[str, np.ndarray]:
    """The initializers by name."""
    from onnx import numpy_helper

    if graph.sparse_initializer:
        raise ChimeraError(f"{path} has sparse weights; expected dense ones")
    constants = {}
    for tensor in graph.initializer:
        try:
            constants[tensor.name] = numpy_helper.to_array(tensor)
        except INVALID as error:
            raise ChimeraError(f"{path}: the constant {tensor.name!r} is damaged ({error}); export it anew") from error
    return constants


def _image_shape(path: Path, value: Any) -> tuple[tuple[int, int, int], bool]:
    """(C, H, W) of the input, and whether its channels come last.

    Raises ChimeraError for anything but one float32 image of fixed size.
    """
    from onnx import TensorProto

    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise ChimeraError(f"{path}: input {value.name!r} is {name}; expected FLOAT, that is float32")
    sizes: list[Any] = [dim.dim_value or dim.dim_param or "?" for dim in kind.shape.dim]
    said = f"{path}: input {value.name!r} has shape ({', '.join(map(str, sizes))})"
    if len(sizes) != 4:
        raise ChimeraError(f"{said}; expected (N, C, H, W)")
    if isinstance(sizes[0], int) and sizes[0] != 1:
        raise ChimeraError(f"{said}; expected a batch of 1, or any: export it with batch 1")
    if not all(isinstance(size, int) and size > 0 for size in sizes[1:]):
        raise ChimeraError(f"{said}; expected fixed channels, height and width: export it for one image size")
    if sizes[1] in (1, 3):
        return (sizes[1], sizes[2], sizes[3]), False
    if sizes[3] in (1, 3):
        return (sizes[3], sizes[1], sizes[2]), True
    raise ChimeraError(f"{said}; expected 3 or 1 channels")


def _convert(graph: Graph, proto: Any, opset: int) -> None:
    """Turn one node into operations, or into constants where all that it reads is constant."""
    import numpy as np
    from onnx import helper

    if proto.op_type in QUANTISED:
        raise Unsupported("the model is quantised; expected float32 weights")
    if proto.domain not in ("", "ai.onnx"):
        raise Unsupported(f"it belongs to {proto.domain}, not to ONNX itself")
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = helper.get_attribute_value(attribute)
        attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
    if graph.channels_last and graph.channels_last in proto.input:
        if proto.op_type != "Transpose" or attributes.get("perm") != [0, 3, 1, 2]:
            raise Unsupported(
                "the image's channels come last; expected a Transpose that brings them to the front first"
            )
        graph.names[proto.output[0]] = "input"
        return
    if proto.op_type == "Shape" and proto.input[0] in graph.names:
        sizes = (1, *graph.shape(proto.input[0]))[attributes.get("start") : attributes.get("end")]
        graph.constants[proto.output[0]] = np.array(sizes, np.int64)
        return
    if all(name in graph.constants for name in proto.input if name) and not proto.op_type.startswith("Random"):
        graph.constants.update(_computed(graph, proto, opset))
        return
    if proto.op_type not in OPERATORS:
        raise Unsupported("there is no such operation here")
    OPERATORS[proto.op_type](graph, Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes))


def _computed(graph: Graph, proto: Any, opset: int) -> dict[str, np.ndarray]:
    """What a node makes of constants alone, by ONNX's reference implementation."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    constants = {name: graph.constants[name] for name in dict.fromkeys(proto.input) if name}
    outputs = [name for name in proto.output if name]
    made = helper.make_graph(
        [proto],
        "constants",
        [],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    try:
        results = ReferenceEvaluator(model).run(None, {})
    except Exception as error:  # the reference implementation raises whatever comes up in it
        raise Unsupported(f"its constant result cannot be computed ({error})") from error
    return dict(zip(outputs, results, strict=True))


def _network(path: Path, graph: Graph, shape: tuple[int, int, int]) -> Network:
    """The operations that lead to the result, as a network."""
    last = graph.names.get(graph.last, "input")
    if last == "input":
        raise ChimeraError(f"{path}: its output {graph.last!r} does not depend on the image; expected a classifier")
    size = graph.shapes[last]
    if len(size) == 3 and size[1:] == (1, 1):
        last, size = graph.step("flatten", [last], f"{last}_flat", size[:1]), size[:1]
    if len(size) != 1 or size[0] < 2:
        raise ChimeraError(f"{path}: its output has shape {('N', *size)}; expected (N, classes), two classes at least")
    wanted, ops = {last}, []
    for op in reversed(graph.ops):
        if op["out"] in wanted:
            wanted.update(op["in"])
            ops.append(op)
    kept = fold_padding(ops[::-1])
    used = {value for op in kept for value in op.values() if isinstance(value, str)}
    arrays = {name: array for name, array in graph.arrays.items() if name in used}
    try:
        return Network(kept, arrays, shape, graph.left_out)
    except ChimeraError as error:
        raise ChimeraError(f"{path}: {error}") from None
