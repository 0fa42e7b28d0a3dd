"""How does the difference between two libraries' matrix products grow with K, the number of terms in a sum?

The bound grows like K u, u = 2**-24 (see ``book/images.md``), whatever the order of the additions. Rounding errors of
random sign would add up like a random walk, to sqrt(K) u of the result where its terms have random signs as
well (Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41, 2019). What
libraries do is measured: one product, as one 1x1 convolution, in each library, and a line through the
logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images import executor
from chimera_lib.images.backends.pool import Worker
from chimera_lib.images.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

TERMS = (27, 64, 128, 256, 288, 384, 512, 576, 768, 1024, 1152, 1536, 2304, 3072, 4608)
SIDE = 64  # rows and columns of a random product
UNIT = 2.0**-24
FEWEST = 4  # values of K that a line is drawn through


@dataclass(frozen=True)
class Growth:
    """Differences of one pair of libraries on one kind of matrices.

    Attributes:
        pair, kind: which (kind: ``random`` or ``activations``).
        terms: (T,) the values of K.
        relative: (T, draws) rms of the difference over rms of the product.
        bound: (T,) the most that the relative difference can be, by the bound, averaged over the values.
        slope, interval: of the line through log K and the log of the geometric means, with its 95 % interval (t).
    """

    pair: tuple[str, str]
    kind: str
    terms: np.ndarray
    relative: np.ndarray
    bound: np.ndarray
    slope: float
    interval: tuple[float, float]


def network_of(a: np.ndarray, columns: int) -> Network:
    """``a`` (M, K) times a matrix (K, columns) as a network: one 1x1 convolution of an "image" (1, columns, K)."""
    op: dict[str, Any] = {"op": "conv", "in": ["input"], "out": "product", "weight": "a", "bias": None}
    op |= {"stride": [1, 1], "padding": [0, 0], "groups": 1}
    weight = np.ascontiguousarray(a, np.float32).reshape(*a.shape, 1, 1)
    return Network([op], {"a": weight}, (a.shape[1], 1, columns))


def multiply(a: np.ndarray, b: np.ndarray, backends: Sequence[str]) -> np.ndarray:
    """``a`` (M, K) times each of ``b`` (draws, K, N), by each GEMM backend: float32 (backends, draws, M, N)."""
    network = network_of(a, b.shape[2])
    images = np.ascontiguousarray(b.transpose(0, 2, 1)[:, None], np.float32)  # (draws, 1, N, K)
    out = []
    for name in backends:
        with Worker(name, network) as worker:
            worker.send(images)
            out.append(worker.receive().reshape(len(b), len(a), b.shape[2]))
    return np.stack(out)


def random_matrices(terms: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal a (64, K) and b (draws, K, 64), float32."""
    rng = np.random.default_rng([seed, terms])
    a, b = rng.standard_normal((SIDE, terms)), rng.standard_normal((draws, terms, SIDE))
    return a.astype(np.float32), b.astype(np.float32)


def real_matrices(network: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (M, K) and activations (N, K, columns) of the network's convolution with the most terms, the first such.

    The activations are those that the images, uint8 (N, H, W, C), send into it, unfolded as the executor does; of
    more than 64 columns, 64 evenly spread ones.
    """
    convolutions = [
        op for op in network.ops if op["op"] == "conv" and op["groups"] == 1 and set(op.get("dilation") or [1]) == {1}
    ]
    if not convolutions:
        raise ChimeraError("the network has no ordinary convolution, whose activations could be multiplied")
    op = max(convolutions, key=lambda o: np.prod(network.arrays[o["weight"]].shape[1:]))
    weight = network.arrays[op["weight"]]
    run = executor.Executor(network.program, network.arrays, numpy_product)
    pads = [*op["padding"], *op["padding"]][:4]  # [py, px], or top, left, bottom, right
    columns = []
    for image in images:
        values = {"input": executor.pixels(image), **run.trace(image)}
        x = np.pad(values[op["in"][0]], ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        taps = executor.windows(x, (weight.shape[2], weight.shape[3]), tuple(op["stride"]))
        unfolded = taps.reshape(np.prod(weight.shape[1:]), -1)
        columns.append(unfolded[:, np.linspace(0, unfolded.shape[1] - 1, min(SIDE, unfolded.shape[1])).astype(int)])
    return weight.reshape(len(weight), -1), np.stack(columns)


def numpy_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """``a`` (M, K) times ``b`` (K, N) into ``out`` (M, N)."""
    np.matmul(a, b, out=out)


def growth(
    backends: Sequence[str],
    *,
    terms: Sequence[int] = TERMS,
    draws: int = 8,
    seed: int = 0,
    real: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Growth]:
    """Compare the first backend's products with each other's, over ``terms``; a Growth a pair.

    With ``real`` matrices (see ``real_matrices``), their first K rows and columns are taken instead of random ones,
    for those K that they have.
    """
    if real is not None:
        terms = [k for k in terms if k < real[0].shape[1]] + [real[0].shape[1]]
    if len(set(terms)) < FEWEST:
        raise ChimeraError(f"{len(set(terms))} values of K: a line with an interval needs at least {FEWEST}")
    relative = np.zeros((len(backends) - 1, len(terms), len(real[1]) if real else draws))
    bound = np.zeros(len(terms))
    for t, k in enumerate(terms):
        a, b = random_matrices(k, draws, seed) if real is None else (real[0][:, :k], real[1][:, :k])
        c = multiply(a, b, backends).astype(np.float64)
        scale = np.sqrt(np.mean(c[0] ** 2, axis=(1, 2)))
        relative[:, t] = np.sqrt(np.mean((c[1:] - c[0]) ** 2, axis=(2, 3))) / scale
        sums = np.abs(a).astype(np.float64) @ np.abs(b)
        bound[t] = 2 * k * UNIT / (1 - k * UNIT) * np.mean(sums.mean((1, 2)) / scale)  # each may err by gamma_K
    kind = "random" if real is None else "activations"
    return [
        Growth((backends[0], name), kind, np.array(terms), each, bound, *fit(terms, each))
        for name, each in zip(backends[1:], relative, strict=True)
    ]


def fit(terms: Sequence[int], relative: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Slope of log ``relative`` (T, draws), averaged over the draws, against log K, with its 95 % interval.

    One point a K, since draws of one K share what the library's blocking does there. Values of K at which the two
    libraries agree to the bit have no logarithm and are left out; without ``FEWEST`` others the slope is NaN.
    """
    from scipy import stats as scipy_stats

    some = (relative > 0).all(axis=1)
    if some.sum() < FEWEST:
        return float("nan"), (float("nan"), float("nan"))
    x, y = np.log(np.asarray(terms, float)[some]), np.log(relative[some]).mean(axis=1)
    line = scipy_stats.linregress(x, y)
    half = float(scipy_stats.t.ppf(0.975, len(x) - 2) * line.stderr)
    return float(line.slope), (float(line.slope) - half, float(line.slope) + half)


def metrics(found: Sequence[Growth]) -> dict[str, Any]:
    """The metrics of a recorded run: the slope of each pair and kind, n being the values of K behind it."""
    out = {}
    for one in found:
        if np.isfinite(one.slope):
            key = f"{one.kind}_{one.pair[0]}_{one.pair[1]}".replace(":", "_").replace("-", "_")
            out[f"{key}_slope"] = {"value": one.slope, "n": int((one.relative > 0).all(1).sum()), "ci": one.interval}
            largest = float(np.median(one.relative[-1]))
            out[f"{key}_difference_at_largest_k"] = {"value": largest, "n": one.relative.shape[1]}
            out[f"{key}_share_of_bound"] = {"value": largest / float(one.bound[-1]), "n": one.relative.shape[1]}
    return out


def as_text(found: Sequence[Growth]) -> str:
    """A line a pair and kind for a terminal."""
    lines = []
    for one in found:
        k, (low, high) = one.terms, one.interval
        lines.append(
            f"{one.pair[0]} against {one.pair[1]}, {one.kind}, K = {k[0]} to {k[-1]}: difference"
            f" {np.median(one.relative[0]):.1e} to {np.median(one.relative[-1]):.1e}, slope {one.slope:.2f}"
            f" ({low:.2f} to {high:.2f}); bound {one.bound[-1]:.1e} at the end"
        )
    return "\n".join(lines)
