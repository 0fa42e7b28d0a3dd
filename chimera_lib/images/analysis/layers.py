"""Where in the network does the difference between two GEMM backends start, and how does it grow?

Both run the same executor, which differs in nothing but the matrix products, and tell every operation's result.
Differences are given relative to the activations they stand in: the root mean square of the difference over
that of the values. Errors of a product are relative by nature (every rounding is), so this is the scale on which a
layer that only passed differences on would show a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.images.backends.pool import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.images.network import Network


@dataclass(frozen=True)
class Layer:
    """One operation, over N images.

    Attributes:
        name, kind: as in the network.
        terms: products in the sum behind one output value (K); 0 where the operation is no product.
        relative: (N,) rms of the difference over rms of the values.
        differing: (N,) share of values that differ at all.
    """

    name: str
    kind: str
    terms: int
    relative: np.ndarray
    differing: np.ndarray


def terms(network: Network, op: dict[str, Any]) -> int:
    """K of a convolution (channels in, times the window) or a linear layer; 0 for any other operation."""
    return int(np.prod(network.arrays[op["weight"]].shape[1:])) if op["op"] in ("conv", "linear") else 0


def divergence(network: Network, images: np.ndarray, pair: Sequence[str]) -> list[Layer]:
    """Compare every operation of two GEMM backends on images uint8 (N, H, W, C), each alone.

    Raises ChimeraError where there are not two, or where one is a framework.
    """
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ChimeraError(f"backends {', '.join(pair)}: expected two different GEMM backends, such as openblas, blis")
    relative, differing = np.zeros((2, len(network.ops), len(images)))
    with Worker(pair[0], network) as one, Worker(pair[1], network) as two:
        for i, image in enumerate(images):
            first, second = one.trace(image), two.trace(image)
            for j, op in enumerate(network.ops):
                x, y = first[op["out"]].astype(np.float64), second[op["out"]].astype(np.float64)
                scale = np.sqrt(np.mean(x * x))
                relative[j, i] = np.sqrt(np.mean((x - y) ** 2)) / scale if scale else 0.0
                differing[j, i] = np.mean(x != y)
    return [
        Layer(op["out"], op["op"], terms(network, op), relative[j], differing[j]) for j, op in enumerate(network.ops)
    ]


def first_different(layers: Sequence[Layer]) -> np.ndarray:
    """Number (N,) of the first operation with any difference, for each image; -1 where there is none."""
    some = np.stack([layer.differing > 0 for layer in layers])
    return np.where(some.any(0), some.argmax(0), -1)


def as_rows(layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Rows for a table: medians over the images, and what each operation multiplies the difference by."""
    before = 0.0
    rows: list[dict[str, object]] = []
    for layer in layers:
        now = float(np.median(layer.relative))
        rows.append(
            {
                "operation": layer.name,
                "kind": layer.kind.replace("_", " "),
                "K": layer.terms or None,
                "values that differ": float(np.median(layer.differing)),
                "relative difference": now,
                "growth": now / before if before else None,
            }
        )
        before = now
    return rows


def metrics(layers: Sequence[Layer]) -> dict[str, Any]:
    """The metrics of a recorded run: where it starts, how large it is there and at the logits, and the growth."""
    n = len(layers[0].relative)
    starts = first_different(layers)
    place = int(np.bincount(starts[starts >= 0]).argmax()) if (starts >= 0).any() else 0
    here, last = layers[place], layers[-1]
    growth = last.relative / np.maximum(here.relative, 1e-300)
    share = int((starts == place).sum())
    return {
        "first_layer": f"{here.name} ({here.kind}, K = {here.terms})",
        "first_layer_share": {"value": share / n, "n": n, "ci": stats.exact(share, n)},
        "first_difference": {"value": float(np.median(here.relative)), "n": n, "ci": stats.bootstrap(here.relative)},
        "first_differing_values": {"value": float(np.median(here.differing)), "n": n},
        "logit_difference": {"value": float(np.median(last.relative)), "n": n, "ci": stats.bootstrap(last.relative)},
        "growth": {"value": float(np.median(growth)), "n": n, "ci": stats.bootstrap(growth)},
    }


def as_text(layers: Sequence[Layer]) -> str:
    """A table for a terminal."""
    lines = [f"{'operation':<24} {'kind':<16} {'K':>5}  differ  relative difference"]
    for row in as_rows(layers):
        lines.append(
            f"{row['operation']!s:<24} {row['kind']!s:<16} {row['K'] or '':>5}"
            f"  {row['values that differ']:6.1%}  {row['relative difference']:.2e}"
        )
    return "\n".join(lines)
