"""NVIDIA's cuBLAS through PyTorch: the executor on the host, its products on the card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NAME = "cublas"
LIBRARY = "cublas"
INSTALL = "pip install torch, the build for CUDA, on a machine with an NVIDIA card"
ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # one workspace: the same algorithm each time
VARIANTS = {"": {"tf32": False}, "tf32": {"tf32": True}}  # tf32 rounds the factors to 10 bits of mantissa


class Unavailable(Exception):  # noqa: N818
    pass


def start(network: str, options: dict[str, Any], executor: Any) -> Any:
    import torch

    device = options.get("device", "cuda")
    if device == "cuda" and not torch.cuda.is_available():
        built = "PyTorch sees none" if torch.version.cuda else f"this PyTorch ({torch.__version__}) is for CPUs only"
        raise Unavailable(f"no CUDA device: {built}")
    torch.backends.cuda.matmul.allow_tf32 = options["tf32"]

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        out[:] = torch.mm(torch.from_numpy(a).to(device), torch.from_numpy(b).to(device)).cpu().numpy()

    run = executor.Executor(*executor.read(network), gemm)
    facts = {"version": torch.version.cuda or torch.__version__, "torch": torch.__version__, "path": torch.__file__}
    facts["kernels"] = "TF32" if options["tf32"] else "float32"
    if device == "cuda":
        facts["card"] = torch.cuda.get_device_name()
        facts["kernels"] += f" on {facts['card']}"
    return run.predict, facts
