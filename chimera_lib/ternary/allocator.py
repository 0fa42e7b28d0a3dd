"""Have the C library keep the memory that training frees, so that the next step need not ask the system for it.

torch takes the memory of its CPU tensors from the C library. Activations and gradients are tensors of megabytes that
live for part of a step, and glibc hands blocks of that size back to the system as soon as they are free: at once those
that it mapped one by one (`M_MMAP_THRESHOLD`), and the top of its heap once more than a little of it is free
(`M_TRIM_THRESHOLD`). Every step then gets fresh pages, each of which the kernel has to fault in and fill with zeros.
A fake-quantised layer makes more such tensors than a plain one, and pays more for it.
"""

from __future__ import annotations

import ctypes
import functools
import platform

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
NEVER = -1  # for trimming: as the manual page of mallopt says it
THRESHOLDS = (2**30, 2**25)  # bytes; some versions of glibc take no more than 32 MiB


@functools.cache
def keep_memory() -> bool:
    """Set glibc's allocator to keep what is freed, for the rest of the process; a second call changes nothing.

    The process then holds on to the most that it has ever used. What was mapped before is not touched, and there is no
    way back: glibc's own adaptive thresholds are off from here on. The environment variables
    ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` do the same before a process starts.

    Returns:
        Whether it did; False where the C library is another one (musl, macOS, Windows), which is left alone.

    Source: mallopt(3), the GNU C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # a build without it
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mapped = any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in THRESHOLDS)
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER) == 1 and mapped)
