"""What a person sees while notebooks run: a line per event, and on a terminal one live line under them."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from chimera_lib.runs.engine import Event


class Progress:
    """Reports events to a stream; to be passed as ``report`` to `engine.run_cells`, inside of a ``with`` block.

    On a terminal the cells that run are kept on one line that counts the seconds; elsewhere (a log file, CI) every
    event is a line of its own.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._running: dict[str, tuple[Event, float]] = {}
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        if self._live:
            self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._live:
            self._ticker.join()
            with self._lock:
                self._write("")

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            if event.kind in ("started", "cell"):
                self._began.setdefault(event.notebook, time.monotonic())
                self._running[event.notebook] = event, self._began[event.notebook]
            else:
                self._running.pop(event.notebook, None)
                if event.kind != "retry":
                    self._began.pop(event.notebook, None)
            if not self._live:
                self._stream.write(f"{event}\n")
                self._stream.flush()
                return
            if event.kind not in ("started", "cell"):
                self._write(f"{event}\n")
            self._draw()

    def _tick(self) -> None:
        while not self._end.wait(1.0):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        now = time.monotonic()
        shown = []
        for event, began in self._running.values():
            where = f"cell {event.number} of {event.total}" if event.total else "starting"
            shown.append(f"{event.notebook} · {where} · {now - began:.0f} s")
        self._write("   ".join(shown)[: shutil.get_terminal_size().columns - 1])

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}")  # back to the margin, clear to the end of the line
        self._stream.flush()
