"""Runner of the GEMM backends: ``sgemm`` of a BLAS library, taken through its C interface, under our own executor.

Self-contained (numpy only): it is loaded by path in a worker process. A library is loaded with
``RTLD_LOCAL | RTLD_DEEPBIND``, so that it calls its own symbols and not those of the BLAS that numpy brought along.
"""

from __future__ import annotations

import ctypes
import fnmatch
import importlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

ROW_MAJOR, NO_TRANSPOSE = 101, 111  # CBLAS's enumerations
MKL_BRANCHES = {  # mkl_cbwr_get's codes for the kernel sets that MKL_CBWR names
    1: "automatic",
    2: "AUTO",
    3: "COMPATIBLE",
    4: "SSE2",
    8: "SSE4_1",
    9: "SSE4_2",
    10: "AVX",
    12: "AVX2",
    14: "AVX512",
    16: "AVX512_E1",
}
MKL_STRICT = 0x10000


class Unavailable(Exception):  # noqa: N818
    """The library is not there, or is not the one that was asked for; the message says why."""


class GemmModel:
    """The executor on one library's ``sgemm``."""

    def __init__(self, run: Any, facts: dict[str, Any]) -> None:
        self.run, self.facts = run, facts

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Logits (classes,) of one image (H, W, C), uint8 or float32."""
        return self.run.predict(image)

    def trace(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every operation's result by name, in order, for one image (H, W, C)."""
        return self.run.trace(image)

    def info(self) -> dict[str, Any]:
        """Library, version, kernel set, and the mapped file."""
        return self.facts


def locate(options: dict[str, Any]) -> str:
    """The library's file: ``path``, or the file matching ``file`` inside the PyPI package ``distribution``."""
    if options.get("cached"):  # by the system: a path that can be loaded, though there is no such file
        if platform.system() != "Darwin":
            raise Unavailable(f"not on {platform.system()}: {options['install']}")
        return str(options["path"])
    if "path" in options:
        if not Path(options["path"]).exists():
            raise Unavailable(f"not installed: {options['install']}")
        return os.path.realpath(options["path"])
    try:
        files = importlib.metadata.distribution(options["distribution"]).files or []
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(f"not installed: {options['install']}") from None
    for file in files:
        if fnmatch.fnmatch(file.name, options["file"]):
            return os.path.realpath(file.locate())
    raise Unavailable(f"no {options['file']} in the installed {options['distribution']}")


def is_mapped(path: str) -> bool:
    """Whether the file at ``path`` is mapped into this process (where the system tells; else True)."""
    maps = Path("/proc/self/maps")
    return not maps.exists() or any(line.endswith(path) for line in maps.read_text().splitlines())


def c_string(library: ctypes.CDLL, name: str, *arguments: int) -> str:
    """What the C function ``name`` of ``library`` says; empty if it is not there."""
    function = getattr(library, name, None)
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return (function(*arguments) or b"").decode().strip()


def openblas_facts(library: ctypes.CDLL, options: dict[str, Any]) -> dict[str, str]:
    """Configuration and kernel set, as OpenBLAS names its cores."""
    prefix, suffix = options.get("prefix", ""), options.get("suffix", "")
    config = c_string(library, f"{prefix}openblas_get_config{suffix}")
    kernels = c_string(library, f"{prefix}openblas_get_corename{suffix}")
    return {"version": [*config.split(), "", "?"][1], "config": config, "kernels": kernels}


def mkl_facts(library: ctypes.CDLL, _: dict[str, Any]) -> dict[str, str]:
    """Version and the branch that MKL's conditional numerical reproducibility runs."""
    text = ctypes.create_string_buffer(256)
    library.MKL_Get_Version_String(text, 256)
    config = text.value.decode().strip()
    code = library.MKL_CBWR_Get(-1)  # -1 asks for everything: the branch and the strict flag
    branch = MKL_BRANCHES.get(code & ~MKL_STRICT, f"branch {code}") + (",STRICT" if code & MKL_STRICT else "")
    numbers = [word for word in config.split() if word[:1].isdigit()]
    return {"version": (numbers or ["?"])[0].partition("-")[0], "config": config, "kernels": branch}


def blis_facts(library: ctypes.CDLL, _: dict[str, Any]) -> dict[str, str]:
    """Version and the kernel set ("architecture") in use."""
    library.bli_init()  # asked before it is initialised, it aborts
    kernels = c_string(library, "bli_arch_string", library.bli_arch_query_id())
    return {"version": c_string(library, "bli_info_get_version_str"), "kernels": kernels}


def accelerate_facts(_: ctypes.CDLL, __: dict[str, Any]) -> dict[str, str]:
    """It comes with the system and cannot be asked: the system's version and the processor."""
    return {"version": platform.mac_ver()[0], "kernels": f"Accelerate on {platform.machine()}"}


def file_facts(_: ctypes.CDLL, options: dict[str, Any]) -> dict[str, str]:
    """Libraries that cannot be asked: the version in the file's name."""
    return {"version": os.path.realpath(options["path"]).rpartition(".so.")[2], "kernels": "as built"}


FACTS = {"openblas": openblas_facts, "mkl": mkl_facts, "blis": blis_facts, "accelerate": accelerate_facts}


def c_gemm(library: ctypes.CDLL, symbol: str, integer: type, number: type = ctypes.c_float) -> Any:
    """``gemm(a, b, out)`` by the library's cblas_sgemm, or its cblas_dgemm with c_double for ``number``."""
    function = getattr(library, symbol)
    function.restype = None
    enum, real, matrix = ctypes.c_int, number, ctypes.c_void_p
    sizes = [integer] * 3
    function.argtypes = [enum, enum, enum, *sizes, real, matrix, integer, matrix, integer, real, matrix, integer]

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        (m, k), n = a.shape, b.shape[1]
        pointers = a.ctypes.data, b.ctypes.data, out.ctypes.data
        function(
            ROW_MAJOR, NO_TRANSPOSE, NO_TRANSPOSE, m, n, k, 1.0, pointers[0], k, pointers[1], n, 0.0, pointers[2], n
        )

    return gemm


def blis_python_gemm() -> Any:
    """``gemm(a, b, out)`` by the PyPI package blis, which has no C interface to load."""
    multiply = importlib.import_module("blis.py").gemm

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        multiply(a, b, out=out, beta=0.0)

    return gemm


def in_float64(multiply: Any) -> Any:
    """``gemm(a, b, out)`` by ``multiply`` in float64, rounded once to what ``out`` is."""

    def gemm(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        wide = np.empty(out.shape)
        multiply(np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64), wide)
        np.copyto(out, wide, casting="same_kind")

    return gemm


def start(network: str, options: dict[str, Any], executor: Any) -> GemmModel:
    """Load the library that ``options`` describes and compile the network onto it; raises Unavailable."""
    path = locate(options)
    if options.get("module"):
        importlib.import_module(options["module"])  # an extension module that is the library itself
    library = ctypes.CDLL(path, mode=os.RTLD_LOCAL | os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
    facts = {"library": options["library"], "path": path}
    facts |= FACTS.get(options["library"], file_facts)(library, options)
    if not is_mapped(path):
        raise Unavailable(f"{path} was loaded but is not mapped")
    wanted = options.get("kernels") or [facts["kernels"]]
    if facts["kernels"] not in wanted:
        raise Unavailable(f"asked for kernels {wanted[0]}, the library runs {facts['kernels']}")
    wide, symbol = options.get("float64"), options.get("symbol", "")
    number: type = ctypes.c_double if wide else ctypes.c_float
    if wide:
        symbol = symbol.replace("sgemm", "dgemm")
        facts["kernels"] += ", all in float64" if wide == "all" else ", products in float64"
    if options.get("module"):
        gemm = blis_python_gemm()
    else:
        gemm = c_gemm(library, symbol, ctypes.c_int64 if options.get("long") else ctypes.c_int, number)
    if wide == "all":
        executor.REAL = np.float64
    gemm = in_float64(gemm) if wide else gemm
    return GemmModel(executor.Executor(*executor.read(network), gemm), facts)
