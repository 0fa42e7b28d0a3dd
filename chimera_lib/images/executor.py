"""One image through a network, by im2col and one pluggable ``sgemm``, all else in one fixed order of numpy.

The matrix product is the only thing that differs between GEMM backends. Everything else (padding, bias, batch
norm, ReLU, pooling, additions) is elementwise numpy in a written-down order: single float32 additions,
multiplications and divisions are exactly rounded (IEEE 754), so they are the same bits on every CPU, while a
library's own reductions (``np.sum``) need not be and are avoided.

Self-contained: numpy only and nothing of this package, for workers run by other interpreters (Python >= 3.9).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

Gemm = Callable[[np.ndarray, np.ndarray, np.ndarray], None]  # (a (M, K), b (K, N), out (M, N)) -> None, float32
Step = Callable[[], None]
Op = dict[str, Any]
Arrays = dict[str, np.ndarray]

REAL: type = np.float32  # of every number between the operations; a runner may widen it before it compiles a network
PROGRAM = "__program__"  # the entry of the .npz that holds the list of operations, as UTF-8 JSON


def read(path: str) -> tuple[dict[str, Any], Arrays]:
    """Read a network's .npz: its program and its arrays. A pickle in it is refused (ValueError)."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(arrays.pop(PROGRAM).tobytes().decode()), arrays


def pixels(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, C) to float32 (C, H, W): ``x / 255`` by an IEEE float32 division, the organisers' convention.

    A float32 image is the network's input already: its layout is changed and nothing else.
    """
    x = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    return x / np.float32(255) if image.dtype == np.uint8 else x


def batch_norm_terms(op: Op, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """The scale and shift (C,) that stand for a batch norm: computed in float64, rounded once to float32."""
    weight, bias, mean, var = (arrays[op[key]].astype(np.float64) for key in ("weight", "bias", "mean", "var"))
    scale = weight / np.sqrt(var + op["eps"])
    return scale.astype(np.float32), (bias - mean * scale).astype(np.float32)


def aligned(shape: tuple[int, ...], fill: float | None = None) -> np.ndarray:
    """An array of REAL on a 64-byte boundary, always: some libraries round differently by alignment."""
    size = int(np.prod(shape)) * np.dtype(REAL).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array: np.ndarray = raw[start : start + size].view(REAL).reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


def windows(
    x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """A view (C, kh, kw, Ho, Wo) of x (C, H, W): element [c, i, j, y, x] is what tap (i, j) meets at output (y, x)."""
    (channels, height, width), (kh, kw), (sy, sx), (dy, dx) = x.shape, kernel, stride, dilation
    rows, columns = (height - dy * (kh - 1) - 1) // sy + 1, (width - dx * (kw - 1) - 1) // sx + 1
    c, h, w = x.strides
    return np.lib.stride_tricks.as_strided(x, (channels, kh, kw, rows, columns), (c, h * dy, w * dx, h * sy, w * sx))


def frame(x: np.ndarray, padding: list[int], fill: float) -> tuple[np.ndarray, np.ndarray]:
    """A buffer for x (C, H, W) inside a border of ``fill``, and the view of it where x goes.

    ``padding`` is [vertical, horizontal], or [top, left, bottom, right].
    """
    (channels, height, width), (top, left) = x.shape, padding[:2]
    bottom, right = padding[-2:]
    padded = aligned((channels, top + height + bottom, left + width + right), fill)
    return padded, padded[:, top : top + height, left : left + width]


class Executor:
    """A network compiled into steps over preallocated buffers; ``executor(x)`` runs one image.

    Args:
        program: ``{"input_shape": [C, H, W], "ops": [...]}`` as ``Network`` writes it.
        arrays: the float32 parameters that the operations name.
        gemm: ``gemm(a, b, out)`` with C-contiguous float32 a (M, K), b (K, N), out (M, N).

    Raises ValueError for an operation it does not know.
    """

    def __init__(self, program: dict[str, Any], arrays: Arrays, gemm: Gemm) -> None:
        self.gemm = gemm
        self.arrays = arrays
        self.input = aligned(tuple(program["input_shape"]))
        self.values: dict[str, np.ndarray] = {"input": self.input}
        self.steps: list[tuple[str, Step]] = []
        self.output = "input"
        readers = {"input": 2}  # it is never overwritten
        for op in program["ops"]:
            for name in op["in"]:
                readers[name] = readers.get(name, 0) + 1
        for op in program["ops"]:
            if op["op"] == "flatten" and readers[op["in"][0]] > 1:  # its result is the same memory
                readers[op["out"]] = readers.get(op["out"], 0) + 1
        for op in program["ops"]:
            build = getattr(self, "_" + op["op"], None)
            if build is None:
                raise ValueError(f"the executor has no operation {op['op']!r} (at {op['out']})")
            inputs = [self.values[name] for name in op["in"]]
            # An elementwise result may overwrite its input when nobody else reads it: half the memory traffic.
            spare = inputs[0] if readers[op["in"][0]] == 1 else aligned(inputs[0].shape)
            self.values[op["out"]], step = build(op, inputs, spare)
            self.steps.append((op["out"], step))
            self.output = op["out"]

    def __call__(self, x: np.ndarray, trace: Arrays | None = None) -> np.ndarray:
        """Logits (classes,) of one image x (C, H, W); ``trace`` receives a copy of every operation's result by name."""
        np.copyto(self.input, x)
        for name, step in self.steps:
            step()
            if trace is not None:
                trace[name] = self.values[name].copy()
        return self.values[self.output].reshape(-1).copy()

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Logits (classes,) of one image (H, W, C), uint8, or float32 as the network takes it."""
        return self(pixels(image))

    def trace(self, image: np.ndarray) -> Arrays:
        """Every operation's result by name, in order, for one image (H, W, C)."""
        values: Arrays = {}
        self(pixels(image), values)
        return values

    def _conv(self, op: Op, inputs: list[np.ndarray], _: np.ndarray) -> tuple[np.ndarray, Step]:
        """Convolution as (Cout/g, K) @ (K, Ho*Wo) for each group, K = Cin/g * kh * kw in that order; bias after."""
        (x,), weight = inputs, self.arrays[op["weight"]]
        (outputs, depth, kh, kw), groups = weight.shape, op["groups"]
        padded, interior = frame(x, op["padding"], 0.0)
        taps = windows(padded, (kh, kw), tuple(op["stride"]), tuple(op.get("dilation", (1, 1))))
        out = aligned((outputs, *taps.shape[3:]))
        columns = aligned(taps.shape)
        bias = self.arrays[op["bias"]].reshape(-1, 1, 1) if op["bias"] else None
        kernels = aligned(weight.shape)
        np.copyto(kernels, weight)
        products = [
            (
                kernels[outputs // groups * g : outputs // groups * (g + 1)].reshape(outputs // groups, -1),
                columns[depth * g : depth * (g + 1)].reshape(depth * kh * kw, -1),
                out[outputs // groups * g : outputs // groups * (g + 1)].reshape(outputs // groups, -1),
            )
            for g in range(groups)
        ]
        gemm = self.gemm

        def step() -> None:
            np.copyto(interior, x)
            np.copyto(columns, taps)
            for a, b, c in products:
                gemm(a, b, c)
            if bias is not None:
                np.add(out, bias, out=out)

        return out, step

    def _linear(self, op: Op, inputs: list[np.ndarray], _: np.ndarray) -> tuple[np.ndarray, Step]:
        """Linear layer as (1, K) @ (K, N); bias after."""
        row = inputs[0].reshape(1, -1)
        weight = self.arrays[op["weight"]]  # (N, K)
        columns = aligned((weight.shape[1], weight.shape[0]))
        np.copyto(columns, weight.T)
        out = aligned((1, weight.shape[0]))
        bias = self.arrays[op["bias"]] if op["bias"] else None
        gemm = self.gemm

        def step() -> None:
            gemm(row, columns, out)
            if bias is not None:
                np.add(out, bias, out=out)

        return out, step

    def _batch_norm(self, op: Op, inputs: list[np.ndarray], out: np.ndarray) -> tuple[np.ndarray, Step]:
        """x * scale, rounded, then + shift, rounded."""
        x = inputs[0]
        each = (-1, 1, 1) if x.ndim == 3 else (1, -1)  # one number a channel, or one an entry of a vector
        scale, shift = (term.reshape(each) for term in batch_norm_terms(op, self.arrays))

        def step() -> None:
            np.multiply(x, scale, out=out)
            np.add(out, shift, out=out)

        return out, step

    def _relu(self, _: Op, inputs: list[np.ndarray], out: np.ndarray) -> tuple[np.ndarray, Step]:
        x, zero = inputs[0], np.float32(0)

        def step() -> None:
            np.maximum(x, zero, out=out)

        return out, step

    def _clip(self, op: Op, inputs: list[np.ndarray], out: np.ndarray) -> tuple[np.ndarray, Step]:
        """The larger of x and ``min``, then the smaller of that and ``max``."""
        x, low, high = inputs[0], np.float32(op["min"]), np.float32(op["max"])

        def step() -> None:
            np.maximum(x, low, out=out)
            np.minimum(out, high, out=out)

        return out, step

    def _constant(self, op: Op, inputs: list[np.ndarray], out: np.ndarray) -> tuple[np.ndarray, Step]:
        """x and an array that broadcasts over it: their sum, difference, product or quotient."""
        x, value = inputs[0], self.arrays[op["value"]]
        function = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[op["function"]]

        def step() -> None:
            function(x, value, out=out)

        return out, step

    def _concat(self, _: Op, inputs: list[np.ndarray], __: np.ndarray) -> tuple[np.ndarray, Step]:
        """The channels of all inputs (C, H, W), in order."""
        out = aligned((sum(len(x) for x in inputs), *inputs[0].shape[1:]))
        ends = np.cumsum([len(x) for x in inputs])
        parts = [(out[end - len(x) : end], x) for x, end in zip(inputs, ends)]  # noqa: B905 (Python 3.9)

        def step() -> None:
            for part, x in parts:
                np.copyto(part, x)

        return out, step

    def _pad(self, op: Op, inputs: list[np.ndarray], _: np.ndarray) -> tuple[np.ndarray, Step]:
        """Zeros around x."""
        x = inputs[0]
        out, interior = frame(x, op["padding"], 0.0)
        return out, lambda: np.copyto(interior, x)

    def _add(self, _: Op, inputs: list[np.ndarray], out: np.ndarray) -> tuple[np.ndarray, Step]:
        x, y = inputs

        def step() -> None:
            np.add(x, y, out=out)

        return out, step

    def _flatten(self, _: Op, inputs: list[np.ndarray], __: np.ndarray) -> tuple[np.ndarray, Step]:
        return inputs[0].reshape(1, -1), lambda: None

    def _pool(self, op: Op, x: np.ndarray, fill: float) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """The padded copy's interior, what each tap of the window meets (C, Ho, Wo), and an output buffer."""
        padded, interior = frame(x, op["padding"], fill)
        taps = windows(padded, tuple(op["kernel"]), tuple(op["stride"]))
        each = [taps[:, i, j] for i in range(taps.shape[1]) for j in range(taps.shape[2])]
        return interior, each, aligned(each[0].shape)

    def _max_pool(self, op: Op, inputs: list[np.ndarray], _: np.ndarray) -> tuple[np.ndarray, Step]:
        x = inputs[0]
        interior, taps, out = self._pool(op, x, -np.inf)

        def step() -> None:
            np.copyto(interior, x)
            np.copyto(out, taps[0])
            for tap in taps[1:]:
                np.maximum(out, tap, out=out)

        return out, step

    def _avg_pool(self, op: Op, inputs: list[np.ndarray], _: np.ndarray) -> tuple[np.ndarray, Step]:
        """The taps added one after another in row order, then one division.

        Padding counts as zeros, or (``count_include_pad`` false) is no part of the average.
        """
        x = inputs[0]
        interior, taps, out = self._pool(op, x, 0.0)
        count = np.array(len(taps), np.float32)
        if not op.get("count_include_pad", True):
            inside, ones, count = self._pool(op, x[:1], 0.0)
            inside.fill(1)
            count[:] = sum(ones)

        def step() -> None:
            np.copyto(interior, x)
            np.copyto(out, taps[0])
            for tap in taps[1:]:
                np.add(out, tap, out=out)
            np.divide(out, count, out=out)

        return out, step

    def _global_avg_pool(self, op: Op, inputs: list[np.ndarray], spare: np.ndarray) -> tuple[np.ndarray, Step]:
        whole = {**op, "kernel": inputs[0].shape[1:], "stride": (1, 1), "padding": (0, 0)}
        return self._avg_pool(whole, inputs, spare)


def forward(network: str | tuple[dict[str, Any], Arrays], x: np.ndarray, gemm: Gemm) -> np.ndarray:
    """Logits (classes,) of one float32 image x (C, H, W): the whole thing in one call, compiled anew each time."""
    program, arrays = read(network) if isinstance(network, str) else network
    return Executor(program, arrays, gemm)(x)
