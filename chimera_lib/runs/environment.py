"""The facts a measurement depends on: versions, processor, GPU, linear algebra library, git revision."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_PACKAGES = (
    "chimera-lib",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "onnxruntime",
    "onnx",
    "blis",
    "mkl",
    "scipy-openblas32",
    "openvino",
    "jax",
    "matplotlib",
    "statsmodels",
    "scikit-learn",
    "papermill",
    "ipykernel",
)


def capture(root: Path) -> dict[str, Any]:
    """The environment of this process, as plain JSON values.

    Args:
        root: the project's folder, whose git revision is asked for.

    Returns:
        ``date`` (UTC, ISO 8601), ``python``, ``packages``, ``machine``, ``cores``, ``memory_gb``, ``gpu``, ``blas``
        and ``revision`` (``None`` outside of a git checkout; ``+`` at its end when files were changed since).
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": versions(),
        "machine": machine(),
        "cores": usable_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu(),
        "blas": blas(),
        "revision": revision(root),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that matter to a result, of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor's name and the operating system, e.g. ``AMD EPYC 7763, Linux 6.1 x86_64``."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = named[0].partition(":")[2].strip() if named else processor
    return f"{processor}, {platform.system()} {platform.release()} {platform.machine()}"


def usable_cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def gpu() -> str | None:
    """Name of the NVIDIA GPU with its driver's version, or ``None``."""
    if shutil.which("nvidia-smi") is None:
        return None
    return _answer(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])


def blas() -> list[dict[str, Any]]:
    """The BLAS and OpenMP libraries that NumPy brings into a process, as threadpoolctl sees them."""
    import numpy  # noqa: F401  (loaded for the libraries it brings in)
    import threadpoolctl

    keys = ("internal_api", "version", "architecture", "num_threads")
    return [{key: one[key] for key in keys if key in one} for one in threadpoolctl.threadpool_info()]


def revision(root: Path) -> str | None:
    """The git revision of ``root``, with a ``+`` when tracked files differ from it; ``None`` where there is none."""
    head = _answer(["git", "-C", str(root), "rev-parse", "HEAD"])
    if head is None:
        return None
    return head + ("+" if _answer(["git", "-C", str(root), "status", "--porcelain", "-uno"]) else "")


def _answer(command: list[str]) -> str | None:
    """Standard output of a command, stripped; ``None`` where it is missing, fails or takes over ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


if __name__ == "__main__":
    import json

    json.dump(capture(Path.cwd()), sys.stdout, indent=2)
