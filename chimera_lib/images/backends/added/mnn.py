"""Alibaba's MNN: the executor on its matrix product, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

NAME = "mnn"
LIBRARY = "mnn"
INSTALL = "pip install chimera-lib[backends]"


def start(network: str, options: dict[str, Any], executor: Any) -> Any:
    import _mnncengine
    import MNN
    import MNN.expr as mnn

    def matrix(x: np.ndarray) -> Any:
        return mnn.const(x, list(x.shape), mnn.NCHW, mnn.float)

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        out[:] = np.asarray(mnn.matmul(matrix(a), matrix(b)).read()).reshape(out.shape)

    run = executor.Executor(*executor.read(network), gemm)
    return run.predict, {"version": MNN.version(), "path": _mnncengine.__file__, "kernels": "as it chose"}
