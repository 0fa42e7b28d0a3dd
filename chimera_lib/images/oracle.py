"""The oracle: all backends on the same images, and whether they agree."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import psutil

from chimera_lib.errors import BackendDied, ChimeraError
from chimera_lib.images.backends.pool import CHUNK, Worker, check_images

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from chimera_lib.images.backends.registry import Backend
    from chimera_lib.images.network import Network


@dataclass(frozen=True)
class Verdict:
    """What the backends said of N images.

    Attributes:
        names: the backends that answered, B of them, in the order of the rows.
        logits: float32 (B, N, classes).
    """

    names: tuple[str, ...]
    logits: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """int64 (B, N): each backend's class for each image (the lowest of equal maxima)."""
        return self.logits.argmax(-1)

    @property
    def conflict(self) -> np.ndarray:
        """bool (N,): whether at least two backends predict different classes, that is, the image is a chimera."""
        return (self.predictions != self.predictions[0]).any(0)


def report_line(line: str) -> None:
    """Print one line on standard error."""
    print(line, file=sys.stderr, flush=True)


class Oracle:
    """Asks every backend about the same images; a context manager.

    A backend that dies midway is dropped and reported (``lost``), and the work goes on while two remain.

    Args:
        network: the network in question.
        backends: at least two, by name or as ``Backend``.
        timeout: seconds that one message of at most 32 images may take a backend.
        report: where the warning about a lost backend goes (standard error by default).

    Attributes:
        calls: images asked about so far; asking all backends about one image counts one.
        lost: name -> reason, for the backends that died.

    Raises ChimeraError for fewer than two backends, BackendUnavailable when one cannot start, BackendDied when
    fewer than two are left.
    """

    def __init__(
        self,
        network: Network,
        backends: Sequence[str | Backend],
        *,
        timeout: float = 120.0,
        report: Callable[[str], None] = report_line,
    ) -> None:
        self.network = network
        self.workers = [Worker(backend, network, timeout=timeout) for backend in backends]
        names = [worker.name for worker in self.workers]
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise ChimeraError(f"an oracle needs two or more different backends, got {', '.join(names) or 'none'}")
        self.report = report
        self.calls = 0
        self.lost: dict[str, str] = {}
        self._cpu: dict[str, float] = {}

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all workers so far, in seconds; a lost one keeps what it was last seen to have spent."""
        for worker in self.workers:
            if worker.process is not None:
                times = psutil.Process(worker.process.pid).cpu_times()
                self._cpu[worker.name] = times.user + times.system
        return sum(self._cpu.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The backends that are alive."""
        return tuple(worker.name for worker in self.workers)

    def open(self) -> Self:
        """Start all workers and wait until each is ready; ``with`` does the same and closes them at its end."""
        try:
            for worker in self.workers:
                worker.launch()  # all load at the same time
            for worker in self.workers:
                worker.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()

    def info(self) -> dict[str, dict[str, str]]:
        """name -> what each living backend says it is."""
        return {worker.name: worker.info() for worker in self.workers}

    def __call__(self, images: np.ndarray) -> Verdict:
        """Ask all backends about images uint8 (N, H, W, C), each image alone (batch 1) and on one thread.

        Raises BadImage for a wrong shape or type, ChimeraError when the logits are not finite, BackendDied when
        fewer than two backends are left.
        """
        check_images(images, self.network.input_shape)
        return self._ask(images)

    def at(self, points: np.ndarray) -> Verdict:
        """Ask about float32 inputs (N, H, W, C) that need not lie on the 8-bit lattice; else as calling the oracle."""
        check_images(points, self.network.input_shape, "float32")
        return self._ask(points)

    def _ask(self, images: np.ndarray) -> Verdict:
        self.calls += len(images)
        rows: dict[str, list[np.ndarray]] = {worker.name: [] for worker in self.workers}
        for first in range(0, len(images), CHUNK):
            chunk = images[first : first + CHUNK]
            for worker in list(self.workers):
                self._try(worker, partial(worker.send, chunk))
            for worker in list(self.workers):
                self._try(worker, partial(self._collect, worker, rows))
        answers = [np.concatenate(rows[name]) for name in self.names]
        for name, each in zip(self.names, answers, strict=True):
            if each.shape != answers[0].shape:
                said = f"{name} gives {each.shape[1]} classes, {self.names[0]} {answers[0].shape[1]}"
                raise ChimeraError(f"{said}; expected the same network's logits")
        logits = np.stack(answers)
        if not np.isfinite(logits).all():
            guilty = [name for name, each in zip(self.names, logits, strict=True) if not np.isfinite(each).all()]
            raise ChimeraError(
                f"logits of {', '.join(guilty)} hold NaN or infinity; expected a network of finite outputs"
            )
        return Verdict(self.names, logits)

    @staticmethod
    def _collect(worker: Worker, rows: dict[str, list[np.ndarray]]) -> None:
        rows[worker.name].append(worker.receive())

    def _try(self, worker: Worker, action: Callable[[], None]) -> None:
        """Do ``action``; drop ``worker`` and report if it died of it."""
        try:
            action()
        except BackendDied as error:
            self.lost[worker.name] = str(error)
            self.workers.remove(worker)
            if len(self.workers) < 2:
                raise BackendDied(f"{error}; an oracle needs two backends, left: {', '.join(self.names)}") from None
            self.report(f"warning: lost {error}; going on with {', '.join(self.names)}")
