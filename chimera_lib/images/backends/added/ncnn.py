"""Tencent's ncnn: the executor on ncnn's Gemm layer, in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

NAME = "ncnn"
LIBRARY = "ncnn"
INSTALL = "pip install chimera-lib[backends]"
LAYER = "7767517\n3 3\nInput a 0 1 a\nInput b 0 1 b\nGemm product 2 1 a b c\n"


def start(network: str, options: dict[str, Any], executor: Any) -> Any:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for name in dir(net.opt):
        if name.startswith(("use_fp16", "use_bf16", "use_int8", "use_vulkan")):
            setattr(net.opt, name, False)  # or a product may be rounded to 16 bits on the way
    net.load_param_mem(LAYER)

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        run = net.create_extractor()
        run.input("a", ncnn.Mat(a))
        run.input("b", ncnn.Mat(b))
        out[:] = np.asarray(run.extract("c")[1]).reshape(out.shape)

    run = executor.Executor(*executor.read(network), gemm)
    return run.predict, {"version": ncnn.__version__, "path": ncnn.ncnn.__file__, "kernels": "as it chose"}
