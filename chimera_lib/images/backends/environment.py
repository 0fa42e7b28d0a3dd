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
# What a user's shell may hold and would silently turn a backend into another one.
STEERING = (
    "OPENBLAS_CORETYPE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "BLIS_ARCH_TYPE",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "XLA_FLAGS",
)


def of(backend: registry.Backend) -> dict[str, str]:
    """The worker's environment: the present one, held to one thread, without steering but the backend's own."""
    foreign = backend.interpreter is not None  # another interpreter must not look into this one's packages
    drop = {*STEERING, *(("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") if foreign else ())}
    return {k: v for k, v in os.environ.items() if k not in drop} | ONE_THREAD | backend.environment
