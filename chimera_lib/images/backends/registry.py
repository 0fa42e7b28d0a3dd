"""The backends by name: a library, its kernel set and how to start it, one line each, or one file each (``declared``).

A kernel set is chosen by an environment variable that the library reads when it loads, so every backend lives in
a process of its own. ``openblas`` lets the library choose for this CPU; ``openblas:Haswell`` forces a set.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images.backends import declared

HERE = Path(__file__).parent
GEMM, FRAMEWORKS, TORCH_DEVICE = HERE / "gemm.py", HERE / "frameworks.py", HERE / "torch_device.py"
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
        family: ``gemm`` (our executor on a library's sgemm) or ``framework`` (a framework's own forward).
    """

    name: str
    library: str
    runner: Path = GEMM
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    interpreter: Path | None = None
    family: str = "gemm"

    @property
    def needs_system(self) -> bool:
        """Whether it takes the system's packages, and so root to install; the others come with pip."""
        return self.interpreter is not None or str(self.options.get("path", "")).startswith(str(DEBIAN))


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

# A set that is asked for -> the names under which the library may confirm it. In OpenBLAS's usual builds Katmai is an
# alias of Prescott and answers first. MKL confirms only COMPATIBLE and its own choice on CPUs that Intel did not make.
OPENBLAS_CORES = {
    "Prescott": ["Prescott", "Katmai"],
    "Nehalem": ["Nehalem"],
    "Sandybridge": ["Sandybridge"],
    "Haswell": ["Haswell"],
    "SkylakeX": ["SkylakeX"],
}
MKL_SETS = ("COMPATIBLE", "SSE4_2", "AVX2", "AVX512", "AUTO,STRICT")
# Debian's BLIS numbers its kernel sets (BLIS 0.9.0's arch_t); PyPI's blis does not let one choose.
BLIS_SETS = {"skx": 0, "knl": 1, "haswell": 3, "sandybridge": 4, "penryn": 5, "zen": 8, "piledriver": 11, "generic": 25}
ONEDNN_SETS = ("SSE41", "AVX2", "AVX512_CORE")
OPENVINO_SETS = {"SSE41": "sse42", "AVX2": "avx2", "AVX512_CORE": "avx512"}
XLA_SETS = ("SSE4_2", "AVX2", "AVX512")  # caps XLA's own code, which leaves convolutions and products to Eigen
XLA_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


PACKAGES = {
    "openblas": "libopenblas0-serial",
    "blis": "libblis4-serial",
    "atlas": "libatlas3-base",
    "netlib": "libblas3",
}


def debian(library: str, file: str) -> dict[str, Any]:
    """Options for a BLAS that Debian's packages install."""
    path, install = str(DEBIAN / file), f"apt-get install {PACKAGES[library]}"
    return {"library": library, "path": path, "symbol": "cblas_sgemm", "install": install}


DEBIAN_OPENBLAS = debian("openblas", "openblas-serial/libopenblas.so.0")
DEBIAN_BLIS = debian("blis", "blis-serial/libblis.so.4")
DEBIAN_ATLAS = debian("atlas", "atlas/libblas.so.3")
DEBIAN_NETLIB = debian("netlib", "blas/libblas.so.3")


# Apple's own BLAS is a file of the system's shared cache: it can be loaded by this path, but is not on the disk.
ACCELERATE = {
    "library": "accelerate",
    "path": "/System/Library/Frameworks/Accelerate.framework/Accelerate",
    "cached": True,
    "symbol": "cblas_sgemm",
    "install": "it comes with macOS",
}
CUBLAS_FIXED = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # one workspace: cuBLAS takes the same algorithm each time


def gemm_backends() -> list[Backend]:
    """Our executor on the libraries that pip installs, with their kernel sets."""
    found = [Backend("openblas", "openblas", options=OPENBLAS)]
    for core, answers in OPENBLAS_CORES.items():
        options = {**OPENBLAS, "kernels": answers}
        found.append(Backend(f"openblas:{core}", "openblas", GEMM, {"OPENBLAS_CORETYPE": core}, options))
    found.append(Backend("numpy-openblas", "openblas", options=NUMPY_OPENBLAS))
    found.append(Backend("blis", "blis", options=BLIS))
    found.append(Backend("mkl", "mkl", options=MKL))
    for branch in MKL_SETS:
        options = {**MKL, "kernels": [branch]}
        found.append(Backend(f"mkl:{branch.split(',')[-1]}", "mkl", GEMM, {"MKL_CBWR": branch}, options))
    for plain in (OPENBLAS, BLIS, MKL):  # their double precision: in the products alone, or in all operations
        name = str(plain["library"])
        found.append(Backend(f"{name}:float64", name, options={**plain, "float64": "products"}))
        found.append(Backend(f"{name}:all-float64", name, options={**plain, "float64": "all"}))
    return found


def debian_backends() -> list[Backend]:
    """Our executor on the libraries that Debian's packages install; its BLIS lets one choose the kernel set."""
    found = [
        Backend("debian-openblas", "openblas", options=DEBIAN_OPENBLAS),
        Backend("debian-atlas", "atlas", options=DEBIAN_ATLAS),
        Backend("debian-netlib", "netlib", options=DEBIAN_NETLIB),
        Backend("debian-blis", "blis", options=DEBIAN_BLIS),
    ]
    for kernels, number in BLIS_SETS.items():
        options = {**DEBIAN_BLIS, "kernels": [kernels]}
        found.append(Backend(f"debian-blis:{kernels}", "blis", GEMM, {"BLIS_ARCH_TYPE": str(number)}, options))
    return found


def framework(
    name: str, environment: dict[str, str] | None = None, interpreter: Path | None = None, **options: Any
) -> Backend:
    """A framework backend; the framework is what stands before the colon, unless ``framework`` names it."""
    settings = {"framework": name.split(":")[0], "install": PIP, **options}
    return Backend(name, settings["framework"], FRAMEWORKS, environment or {}, settings, interpreter, "framework")


def framework_backends() -> list[Backend]:
    """The frameworks of the present interpreter, with their variants."""
    found = [
        framework("torch"),
        framework("torch:channels_last", channels_last=True),
        framework("torch:nomkldnn", onednn=False),
        framework("torch:nomkldnn-compatible", {"MKL_CBWR": "COMPATIBLE"}, onednn=False),
    ]
    for isa in ONEDNN_SETS:
        found.append(framework(f"torch:{isa}", {"ONEDNN_MAX_CPU_ISA": isa}, kernels=[isa]))
    found.append(framework("onnxruntime", onnx=True))
    found.append(framework("onnxruntime:noopt", onnx=True, optimise=False))
    found.append(framework("openvino", onnx=True))
    for isa, answer in OPENVINO_SETS.items():
        found.append(framework(f"openvino:{isa}", {"ONEDNN_MAX_CPU_ISA": isa}, onnx=True, kernels=[answer]))
    found.append(framework("jax", {"XLA_FLAGS": XLA_ONE_THREAD, "JAX_PLATFORMS": "cpu"}))
    for isa in XLA_SETS:
        flags, says = f"{XLA_ONE_THREAD} --xla_cpu_max_isa={isa}", f"XLA up to {isa}"
        found.append(framework(f"jax:{isa}", {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}, isa=says))
    return found


def swapped_backends() -> list[Backend]:
    """Debian's PyTorch, which takes its BLAS from the generic libblas.so.3, on each BLAS that Debian has.

    The organisers' own setting: the same PyTorch, another BLAS below it. oneDNN is switched off in the ``nomkldnn``
    variants, so that convolutions go through the BLAS as well.
    """
    found = []
    folders = {"openblas": "openblas-serial", "blis": "blis-serial", "atlas": "atlas", "netlib": "blas"}
    for blas, folder in folders.items():
        path = str(DEBIAN / folder)
        package = PACKAGES[blas]
        for variant, onednn in (("", True), (":nomkldnn", False)):
            found.append(
                framework(
                    f"pytorch-{blas}{variant}",
                    {"LD_LIBRARY_PATH": path},
                    Path("/usr/bin/python3"),
                    framework="torch",
                    blas=path + "/",
                    onednn=onednn,
                    install=f"apt-get install python3-torch {package}",
                )
            )
    return found


def device_backends() -> list[Backend]:
    """PyTorch on a graphics card, and Apple's Accelerate; where there is none they say so."""
    found = []
    for name, options in (
        ("torch-cuda", {"device": "cuda", "tf32": False}),
        ("torch-cuda:tf32", {"device": "cuda", "tf32": True}),
        ("torch-mps", {"device": "mps"}),
    ):
        library = name.partition(":")[0]
        settings = {**options, "library": library, "install": "pip install torch"}
        found.append(Backend(name, library, TORCH_DEVICE, CUBLAS_FIXED, settings, family="framework"))
    return [*found, Backend("accelerate", "accelerate", options=ACCELERATE)]


def from_file(path: Path) -> list[Backend]:
    """The backends that one file declares, one for each of its variants; raises ChimeraError (see ``declared``)."""
    said = declared.read(path)
    found = []
    for suffix, variant in said.variants.items():
        options = {**variant, "library": said.library, "install": said.install}
        environment = {**said.environment, **options.pop("environment", {})}
        interpreter = options.pop("interpreter", None)
        python = Path(interpreter) if interpreter else None
        name = f"{said.name}:{suffix}" if suffix else said.name
        found.append(Backend(name, said.library, said.path, environment, options, python, said.family))
    return found


def with_files(backends: list[Backend], paths: list[Path]) -> list[Backend]:
    """``backends`` and those of the files at ``paths``; raises ChimeraError where two have one name."""
    named = {backend.name: backend for backend in backends}
    for path in paths:
        for backend in from_file(path):
            other = named.setdefault(backend.name, backend)
            if other.runner != backend.runner:
                raise ChimeraError(
                    f"backend file {path}: the name {backend.name} is taken ({other.runner}); choose another"
                )
    return list(named.values())


def known() -> list[Backend]:
    """Every backend this package knows, whether or not this machine has it, and those of CHIMERA_BACKENDS."""
    listed = gemm_backends() + framework_backends() + debian_backends() + swapped_backends() + device_backends()
    return with_files(listed, declared.files())


def get(name: str) -> Backend:
    """The backend called ``name``; raises UnknownName."""
    backends = {backend.name: backend for backend in known()}
    if name not in backends:
        raise UnknownName("backend", name, backends, "`chimera images backends` shows what this machine has")
    return backends[name]
