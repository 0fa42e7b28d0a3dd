"""Runner of the framework backends: the same network through PyTorch, ONNX Runtime, OpenVINO or JAX.

Self-contained (numpy and the one framework): it is loaded by path in a worker process, by other interpreters too.
Each framework runs its own convolutions, batch norms and products, on one thread, at batch 1, in float32.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

ONEDNN_SETS = {  # how oneDNN describes the kernel sets that ONEDNN_MAX_CPU_ISA names
    "Intel SSE4.1": "SSE41",
    "Intel AVX2": "AVX2",
    "Intel AVX2 with Intel DL Boost": "AVX2_VNNI",
    "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions": "AVX512_CORE",
    "Intel AVX-512 with Intel DL Boost": "AVX512_CORE_VNNI",
    "Intel AVX-512 with Intel DL Boost and bfloat16 support": "AVX512_CORE_BF16",
}
OPENVINO_SETS = ("sse42", "avx2", "avx512")  # in the names of the primitives that it chose, lowest first


class Unavailable(Exception):  # noqa: N818
    """The framework is not there, or does not run on what was asked for; the message says why."""


class FrameworkModel:
    """A framework's forward of one image x (1, C, H, W), with the facts about it."""

    def __init__(self, forward: Callable[[np.ndarray], np.ndarray], x: np.ndarray, pixels: Any, facts: dict[str, Any]):
        self.forward, self.x, self.pixels, self.facts = forward, x, pixels, facts

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Logits (classes,) of one image (H, W, C), uint8 or float32."""
        np.copyto(self.x[0], self.pixels(image))  # always the same place, for what depends on alignment
        return np.array(self.forward(self.x), np.float32).reshape(-1)

    def info(self) -> dict[str, Any]:
        """Library, version, kernel set, and the mapped file."""
        return self.facts


def need(name: str, options: dict[str, Any]) -> Any:
    """Import a framework; raises Unavailable with the way to install it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != name:
            raise
        raise Unavailable(f"not installed: {options['install']}") from None


def mapped(fragment: str) -> list[str]:
    """The files mapped into this process whose path holds ``fragment`` (none where the system does not tell)."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return sorted({"/" + line.split("/", 1)[1] for line in lines if "/" in line and fragment in line})


def onednn_set(torch: Any) -> str:
    """The kernel set that PyTorch's oneDNN uses, as oneDNN itself says in its verbose mode, on file descriptor 1."""
    kept = os.dup(1)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 1)
        try:
            with torch.no_grad(), torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                # On one thread PyTorch keeps a small convolution from oneDNN, unless its kernel is wider than 3.
                torch.nn.functional.conv2d(torch.zeros(1, 64, 8, 8), torch.zeros(64, 64, 5, 5))
        finally:
            ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)
        heard.seek(0)
        text = heard.read().decode(errors="replace")
    name = text.partition(",isa:")[2].partition("\n")[0].strip()
    return ONEDNN_SETS.get(name, f"oneDNN: {name}" if name else "oneDNN does not run")


def torch_layers(torch: Any, program: dict[str, Any], arrays: dict[str, Any]) -> Callable[[Any], Any]:
    """The program as calls of torch's functional forms."""
    f = torch.nn.functional

    def framed(x: Any, op: dict[str, Any], fill: float) -> tuple[Any, list[int]]:
        """x and the padding that torch is to add: none where the sides differ, x then has it already."""
        padding = op["padding"]
        if padding[:2] == padding[-2:]:
            return x, padding[:2]
        top, left, bottom, right = padding
        return f.pad(x, (left, right, top, bottom), value=fill), [0, 0]

    def average(x: Any, op: dict[str, Any]) -> Any:
        padded, padding = framed(x, op, 0.0)
        include = op.get("count_include_pad", True)
        y = f.avg_pool2d(padded, op["kernel"], op["stride"], padding, count_include_pad=include)
        if include or padding == op["padding"][:2]:
            return y
        ones = f.pad(torch.ones_like(x[:, :1]), [op["padding"][side] for side in (1, 3, 0, 2)])
        return y / f.avg_pool2d(ones, op["kernel"], op["stride"])

    def run(op: dict[str, Any], inputs: list[Any]) -> Any:
        kind, x = op["op"], inputs[0]
        weight, bias = (arrays.get(op.get(key) or "") for key in ("weight", "bias"))
        if kind == "conv":
            x, padding = framed(x, op, 0.0)
            return f.conv2d(x, weight, bias, op["stride"], padding, op.get("dilation", 1), op["groups"])
        if kind == "batch_norm":
            return f.batch_norm(x, arrays[op["mean"]], arrays[op["var"]], weight, bias, False, 0.0, op["eps"])
        if kind == "linear":
            return f.linear(x, weight, bias)
        if kind == "max_pool":
            x, padding = framed(x, op, -float("inf"))
            return f.max_pool2d(x, op["kernel"], op["stride"], padding)
        if kind == "avg_pool":
            return average(x, op)
        if kind == "global_avg_pool":
            return f.adaptive_avg_pool2d(x, 1)
        if kind == "constant":
            return getattr(torch, op["function"])(x, arrays[op["value"]])
        if kind == "pad":
            return f.pad(x, [op["padding"][side] for side in (1, -1, 0, -2)])
        others = {
            "add": lambda: x + inputs[1],
            "relu": lambda: f.relu(x),
            "clip": lambda: x.clamp(op["min"], op["max"]),
            "concat": lambda: torch.cat(inputs, 1),
            "flatten": lambda: x.flatten(1),
        }
        return others[kind]()

    def forward(x: Any) -> Any:
        values = {"input": x}
        for op in program["ops"]:
            values[op["out"]] = run(op, [values[name] for name in op["in"]])
        return values[program["ops"][-1]["out"]]

    return forward


def start_torch(network: str, options: dict[str, Any], executor: Any) -> tuple[Any, dict[str, Any]]:
    """PyTorch; options: ``onednn`` (default True), ``channels_last``, ``blas`` (folder its BLAS must come from)."""
    torch = need("torch", options)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    program, plain = executor.read(network)
    arrays = {name: torch.from_numpy(array).clone() for name, array in plain.items()}
    layout = torch.channels_last if options.get("channels_last") else torch.contiguous_format
    arrays = {n: a.contiguous(memory_format=layout) if a.dim() == 4 else a for n, a in arrays.items()}
    layers = torch_layers(torch, program, arrays)
    onednn = options.get("onednn", True)

    def forward(x: np.ndarray) -> np.ndarray:
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=onednn):
            return layers(torch.from_numpy(x).contiguous(memory_format=layout)).numpy()

    path = (mapped("libtorch_cpu") or [torch.__file__])[0]
    facts = {"version": torch.__version__, "path": path, "kernels": "oneDNN off"}
    if onednn:
        facts["kernels"] = onednn_set(torch)
    if "blas" in options:
        blas = (mapped("/libblas.so") or ["no libblas.so"])[0]
        if not blas.startswith(options["blas"]):
            raise Unavailable(f"asked for the BLAS in {options['blas']}, this PyTorch runs on {blas}")
        facts["path"] = blas
    return forward, facts


def start_onnxruntime(_: str, options: dict[str, Any], __: Any) -> tuple[Any, dict[str, Any]]:
    """ONNX Runtime on its CPU provider; option ``optimise`` (default True: all graph optimisations; False: none)."""
    ort = need("onnxruntime", options)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    optimise = options.get("optimise", True)
    settings.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    session = ort.InferenceSession(options["onnx"], settings, providers=["CPUExecutionProvider"])
    path = (mapped("onnxruntime_pybind11_state") or [ort.__file__])[0]
    facts = {"version": ort.__version__, "path": path, "kernels": "MLAS" + ("" if optimise else ", graph as it is")}
    return lambda x: session.run(None, {"input": x})[0], facts


def start_openvino(_: str, options: dict[str, Any], __: Any) -> tuple[Any, dict[str, Any]]:
    """OpenVINO's CPU plugin, held to float32 (it would choose bfloat16 where the CPU multiplies that faster)."""
    openvino = need("openvino", options)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(options["onnx"], "CPU", settings)
    precision = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    if "32" not in precision and "float" not in precision:
        raise Unavailable(f"asked for float32, OpenVINO runs {precision}")
    notes = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    chosen = " ".join(str(note["primitiveType"].value) for note in notes if "primitiveType" in note)
    kernels = [name for name in OPENVINO_SETS if name in chosen] or ["as it chose"]
    request = compiled.create_infer_request()
    path = (mapped("libopenvino_intel_cpu_plugin") or [openvino.__file__])[0]
    version = openvino.__version__.split("-")[0]
    return lambda x: request.infer([x])[0], {"version": version, "path": path, "kernels": kernels[-1]}


def jax_layers(jax: Any, program: dict[str, Any]) -> Callable[[dict[str, Any], Any], Any]:
    """The program as a function of its arrays and the image, in jax.lax."""
    lax, jnp = jax.lax, jax.numpy

    def sides(op: dict[str, Any]) -> list[tuple[int, int]]:
        """The padding of height and of width, before and after."""
        (top, left), (bottom, right) = op["padding"][:2], op["padding"][-2:]
        return [(top, bottom), (left, right)]

    def window(x: Any, op: dict[str, Any], start: float, combine: Any) -> Any:
        shape, step = (1, 1, *op["kernel"]), (1, 1, *op["stride"])
        return lax.reduce_window(x, start, combine, shape, step, ((0, 0), (0, 0), *sides(op)))

    def average(x: Any, op: dict[str, Any]) -> Any:
        if op.get("count_include_pad", True):
            return window(x, op, 0.0, lax.add) / (op["kernel"][0] * op["kernel"][1])
        return window(x, op, 0.0, lax.add) / window(jnp.ones_like(x), op, 0.0, lax.add)

    def run(op: dict[str, Any], arrays: dict[str, Any], inputs: list[Any]) -> Any:
        kind, x = op["op"], inputs[0]
        each = (1, -1) + (1,) * (x.ndim - 2)  # one number a channel
        if kind == "conv":
            more = {"rhs_dilation": op.get("dilation", [1, 1]), "feature_group_count": op["groups"]}
            y = lax.conv_general_dilated(x, arrays[op["weight"]], op["stride"], sides(op), **more)
            return y + arrays[op["bias"]].reshape(1, -1, 1, 1) if op["bias"] else y
        if kind == "batch_norm":
            weight, bias, mean, var = (arrays[op[k]].reshape(each) for k in ("weight", "bias", "mean", "var"))
            return (x - mean) / jnp.sqrt(var + op["eps"]) * weight + bias
        if kind == "linear":
            y = x @ arrays[op["weight"]].T
            return y + arrays[op["bias"]] if op["bias"] else y
        if kind == "constant":
            return getattr(lax, op["function"])(*jnp.broadcast_arrays(x, arrays[op["value"]]))
        others = {
            "max_pool": lambda: window(x, op, -jnp.inf, lax.max),
            "avg_pool": lambda: average(x, op),
            "global_avg_pool": lambda: x.mean((2, 3), keepdims=True),
            "add": lambda: x + inputs[1],
            "relu": lambda: jax.nn.relu(x),
            "clip": lambda: jnp.clip(x, op["min"], op["max"]),
            "concat": lambda: jnp.concatenate(inputs, 1),
            "pad": lambda: jnp.pad(x, ((0, 0), (0, 0), *sides(op))),
            "flatten": lambda: x.reshape(1, -1),
        }
        return others[kind]()

    def forward(arrays: dict[str, Any], x: Any) -> Any:
        values = {"input": x}
        for op in program["ops"]:
            values[op["out"]] = run(op, arrays, [values[name] for name in op["in"]])
        return values[program["ops"][-1]["out"]]

    return forward


def start_jax(network: str, options: dict[str, Any], executor: Any) -> tuple[Any, dict[str, Any]]:
    """JAX: the whole forward compiled by XLA for the CPU."""
    jax = need("jax", options)
    program, plain = executor.read(network)
    arrays = {name: jax.numpy.asarray(array) for name, array in plain.items()}
    compiled = jax.jit(jax_layers(jax, program))
    compiled(arrays, np.zeros((1, *program["input_shape"]), np.float32)).block_until_ready()
    path = (mapped("jaxlib/libjax") or [jax.__file__])[0]
    facts = {"version": jax.__version__, "path": path, "kernels": options.get("isa", "XLA's choice")}
    return lambda x: np.asarray(compiled(arrays, x)), facts


START = {"torch": start_torch, "onnxruntime": start_onnxruntime, "openvino": start_openvino, "jax": start_jax}


def start(network: str, options: dict[str, Any], executor: Any) -> FrameworkModel:
    """Load the framework that ``options`` names and give it the network; raises Unavailable."""
    forward, facts = START[options["framework"]](network, options, executor)
    wanted = options.get("kernels") or [facts["kernels"]]
    if facts["kernels"] not in wanted:
        raise Unavailable(f"asked for kernels {wanted[0]}, the library runs {facts['kernels']}")
    x = executor.aligned((1, *executor.read(network)[0]["input_shape"]))
    return FrameworkModel(forward, x, executor.pixels, {"library": options["framework"], **facts})
