"""The IPython kernel of a run: the usual one, except that it cannot outlive the process that started it.

ipykernel looks for its parent once a second from a Python thread, which a cell that holds the interpreter's lock
keeps from looking. On Linux the operating system can be asked to do it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel of the operating system kill this process as soon as its parent is gone (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    parent = int(os.environ.get("JPY_PARENT_PID") or os.getppid())
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the request was made
        os._exit(1)


if __name__ == "__main__":
    die_with_parent()
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()
