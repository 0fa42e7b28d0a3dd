"""The facts a measurement depends on, as they go into a run's ``environment.json``."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from chimera_lib import recorded

if TYPE_CHECKING:
    from pathlib import Path


def capture(root: Path) -> dict[str, Any]:
    """The environment of this process, as plain JSON values.

    Args:
        root: the project's folder, whose git revision is asked for.

    Returns:
        ``date`` (UTC, ISO 8601), ``machine``, ``versions`` and ``revision`` as `chimera_lib.recorded` gives them,
        ``memory_gb`` (10^9 bytes), ``gpu`` and ``blas``.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": recorded.machine(),
        "versions": recorded.versions(),
        "revision": recorded.revision(root),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "gpu": gpu(),
        "blas": blas(),
    }


def gpu() -> str | None:
    """Name of the NVIDIA GPU and version of its driver, or ``None`` where there is none or its tool does not answer."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def blas() -> list[dict[str, Any]]:
    """The BLAS and OpenMP libraries that NumPy brings into a process, as threadpoolctl sees them."""
    import numpy  # noqa: F401  (loaded for the libraries it brings in)
    import threadpoolctl

    keys = ("internal_api", "version", "architecture", "num_threads")
    return [{key: one[key] for key in keys if key in one} for one in threadpoolctl.threadpool_info()]
