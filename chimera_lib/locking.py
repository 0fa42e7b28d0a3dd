"""One process at a time, by a lock file that the system frees when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import time
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT = 3600.0  # seconds to wait for another process


@contextlib.contextmanager
def exclusive(path: Path, what: str, report: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock file ``path``; waits for whoever holds it. The system frees it when its holder dies.

    Raises:
        ChimeraError: another process still held it after ``WAIT`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        started, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    report(f"waiting for another process that is fetching {what}")
                    told = True
                if time.monotonic() - started > WAIT:
                    raise ChimeraError(f"{what} has been locked for {WAIT:.0f} s by another process ({path})") from None
                time.sleep(0.1)
        yield
