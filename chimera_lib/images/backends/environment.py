"""The environment of a worker process: one thread, and nothing that would turn a backend into another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chimera_lib.images.backends import registry

# One thread everywhere: how work is split over threads changes the order of summation, and so the bits.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GOTO_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MKL_DYNAMIC": "FALSE",
    "MKL_THREADING_LAYER": "SEQUENTIAL",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
# What a user's shell may hold under these beginnings would silently turn a backend into another one: kernel sets,
# blockings by cache size, dispatch levels.
STEERING = (
    *("OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "ONEDNN_", "DNNL_", "ATEN_", "XLA_", "OMP_", "KMP_", "OV_CPU_"),
    *("NPY_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_", "TORCH_ALLOW_TF32_"),
)


def of(backend: registry.Backend) -> dict[str, str]:
    """The worker's environment: the present one, held to one thread, without steering but the backend's own."""
    foreign = backend.interpreter is not None  # another interpreter must not look into this one's packages
    drop = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") if foreign else ()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(STEERING) and k not in drop}
    return kept | ONE_THREAD | backend.environment
