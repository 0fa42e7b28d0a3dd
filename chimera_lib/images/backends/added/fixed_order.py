"""One written-down order of single float32 operations: the same bits on every CPU, in every batch.

Each output starts at zero and takes its K terms in their order, one exactly rounded product and one exactly
rounded addition each. numpy runs many outputs side by side, which changes no rounding; it contracts nothing to a
fused multiply-add, since product and sum are calls of their own. Source of the idea: He, Defeating nondeterminism
in LLM inference (Thinking Machines, 2025), which fixes the order of reduction for batches of any size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NAME = "fixed-order"
LIBRARY = "fixed-order"
INSTALL = "nothing to install: it needs numpy alone"
VARIANTS = {
    "": {},
    # The same order through other machine code: numpy held to the instructions of 2009, and another numpy.
    "sse": {"environment": {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}},
    "debian": {"interpreter": "/usr/bin/python3"},
}
BLOCK = 65536  # numbers in a block of outputs: it and its terms stay in the second-level cache


def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    rows = max(1, BLOCK // b.shape[1])
    term = np.empty((min(rows, a.shape[0]), b.shape[1]), np.float32)
    out.fill(0)
    for first in range(0, a.shape[0], rows):
        left, sums = a[first : first + rows], out[first : first + rows]
        terms = term[: len(left)]
        for k in range(a.shape[1]):
            np.multiply(left[:, k : k + 1], b[k], out=terms)
            np.add(sums, terms, out=sums)


def start(network: str, options: dict[str, Any], executor: Any) -> Any:
    run = executor.Executor(*executor.read(network), gemm)
    core = np._core if hasattr(np, "_core") else np.core  # numpy 2 renamed it
    file = core._multiarray_umath.__file__
    return run.predict, {"version": np.__version__, "path": file, "kernels": "numpy, one term at a time"}
