"""Products in float64, rounded to float32 once: what every float32 library approximates. Slow, and close to exact.

numpy's float64 product is its BLAS's own dgemm, so its last bits differ from machine to machine; of those, one
rounding to float32 lets through about one in 2**29.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NAME = "reference-float64"
LIBRARY = "reference"
INSTALL = "nothing to install: it needs numpy alone"


def start(network: str, options: dict[str, Any], executor: Any) -> Any:
    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        np.copyto(out, np.matmul(a, b, dtype=np.float64), casting="same_kind")

    run = executor.Executor(*executor.read(network), gemm)
    core = np._core if hasattr(np, "_core") else np.core  # numpy 2 renamed it
    file = core._multiarray_umath.__file__
    return run.predict, {"version": np.__version__, "path": file, "kernels": "float64, rounded once"}
