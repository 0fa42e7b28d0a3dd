"""The backends by name: a library, its kernel set and how to start it, one line each.

A kernel set is chosen by an environment variable that the library reads when it loads, so every backend lives in
a process of its own. ``openblas`` lets the library choose for this CPU; ``openblas:Haswell`` forces a set.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chimera_lib.errors import UnknownName

HERE = Path(__file__).parent
GEMM, FRAMEWORKS = HERE / "gemm.py", HERE / "frameworks.py"
DEBIAN = Path(f"/usr/lib/{platform.machine()}-linux-gnu")
PIP = "pip install chimera-lib[backends]"


@dataclass(frozen=True)
class Backend:
    """One way to run a network.

    Attributes:
        name: ``library`` or ``library:kernel set or variant``.
        library: what the variants of one library have in common.
        runner: the file that the worker loads (see ``worker``).
        environment: variables of the worker process, on top of those that hold it to one thread.
        options: what the runner needs to know, JSON-able.
        interpreter: the Python that runs it; None for the present one.
    """

    name: str
    library: str
    runner: Path = GEMM
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    interpreter: Path | None = None

    @property
    def family(self) -> str:
        """``gemm`` (our executor on a library's sgemm) or ``framework`` (a framework's own forward)."""
        return "gemm" if self.runner == GEMM else "framework"


OPENBLAS = {
    "library": "openblas",
    "distribution": "scipy-openblas32",
    "file": "libscipy_openblas*",
    "symbol": "scipy_cblas_sgemm",
    "prefix": "scipy_",
    "install": PIP,
}
NUMPY_OPENBLAS = {
    **OPENBLAS,
    "distribution": "numpy",
    "symbol": "scipy_cblas_sgemm64_",
    "suffix": "64_",
    "long": True,
    "install": "pip install numpy (a wheel: it brings OpenBLAS along)",
}
MKL = {"library": "mkl", "distribution": "mkl", "file": "libmkl_rt.*", "symbol": "cblas_sgemm", "install": PIP}
BLIS = {"library": "blis", "distribution": "blis", "file": "cy.*.so", "module": "blis.cy", "install": PIP}

OPENBLAS_CORES = ("Prescott", "Nehalem", "Sandybridge", "Haswell", "SkylakeX")
MKL_SETS = ("COMPATIBLE", "SSE4_2", "AVX2", "AVX512")
# BLIS numbers its kernel sets; the names are what the library answers, so a number that means another set is refused.
BLIS_SETS = {"skx": 0, "knl": 1, "haswell": 3, "sandybridge": 4, "penryn": 5, "zen": 8, "generic": 27}


def debian(library: str, file: str, package: str) -> dict[str, Any]:
    """Options for a BLAS that Debian's packages install."""
    return {
        "library": library,
        "path": str(DEBIAN / file),
        "symbol": "cblas_sgemm",
        "install": f"apt-get install {package}",
    }


def gemm_backends() -> list[Backend]:
    """Our executor on every BLAS and kernel set."""
    found = [
        Backend("openblas", "openblas", options=OPENBLAS),
        Backend("blis", "blis", options=BLIS),
        Backend("mkl", "mkl", options=MKL),
        Backend("numpy-openblas", "openblas", options=NUMPY_OPENBLAS),
        Backend(
            "debian-openblas",
            "openblas",
            options=debian("openblas", "openblas-serial/libopenblas.so.0", "libopenblas0-serial"),
        ),
        Backend("debian-blis", "blis", options=debian("blis", "blis-serial/libblis.so.4", "libblis4-serial")),
        Backend("debian-atlas", "atlas", options=debian("atlas", "atlas/libblas.so.3", "libatlas3-base")),
        Backend("debian-netlib", "netlib", options=debian("netlib", "blas/libblas.so.3", "libblas3")),
    ]
    for core in OPENBLAS_CORES:
        options = {**OPENBLAS, "kernels": core}
        found.append(Backend(f"openblas:{core}", "openblas", GEMM, {"OPENBLAS_CORETYPE": core}, options))
    for branch in MKL_SETS:
        options = {**MKL, "kernels": branch}
        found.append(Backend(f"mkl:{branch}", "mkl", GEMM, {"MKL_CBWR": branch}, options))
    for kernels, number in BLIS_SETS.items():
        options = {**BLIS, "kernels": kernels}
        found.append(Backend(f"blis:{kernels}", "blis", GEMM, {"BLIS_ARCH_TYPE": str(number)}, options))
    return found


def known() -> list[Backend]:
    """Every backend this package knows, whether or not this machine has it."""
    return gemm_backends()


def get(name: str) -> Backend:
    """The backend called ``name``; raises UnknownName."""
    backends = {backend.name: backend for backend in known()}
    if name not in backends:
        raise UnknownName("backend", name, backends, "`chimera images backends` shows what this machine has")
    return backends[name]
