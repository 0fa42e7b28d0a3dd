"""Worker processes: start a backend in one, ask it, and say in plain words how it ended if it did.

A worker may be missing, crash, hang or be killed; the parent never hangs with it. Works on Linux and macOS
(it waits on pipes with ``select``).
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import BackendDied, BackendUnavailable, BadImage, ChimeraError
from chimera_lib.images import executor
from chimera_lib.images.backends import environment, registry

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from chimera_lib.images.network import Network

WORKER = Path(__file__).parent / "worker.py"
CHUNK = 32  # images a message: small enough that a timeout means a hang and not a long queue


RANGES = {"uint8": "0 to 255", "float32": "the network's own input"}


def check_images(images: np.ndarray, shape: tuple[int, int, int], dtype: str = "uint8") -> None:
    """Raise BadImage unless ``images`` is (N, H, W, C) of ``dtype`` for a network whose input is ``shape`` (C, H, W).

    A float32 input must be finite.
    """
    channels, height, width = shape
    if images.dtype != np.dtype(dtype):
        raise BadImage(f"images are {images.dtype}; expected {dtype} ({RANGES[dtype]})")
    if images.ndim != 4 or images.shape[1:] != (height, width, channels):
        raise BadImage(f"images have shape {images.shape}; expected (N, {height}, {width}, {channels})")
    if not len(images):
        raise BadImage("no images; expected at least one")
    if not np.isfinite(images).all():
        raise BadImage("images hold NaN or infinity; expected finite float32 values")


class Worker:
    """One backend in its own process, holding one network; a context manager.

    Args:
        backend: which, or its name.
        network: what it runs.
        start_timeout: seconds that loading may take.
        timeout: seconds that one message of at most ``CHUNK`` images may take.
    """

    def __init__(
        self,
        backend: registry.Backend | str,
        network: Network,
        *,
        start_timeout: float = 120.0,
        timeout: float = 120.0,
    ) -> None:
        self.backend = registry.get(backend) if isinstance(backend, str) else backend
        self.network = network
        self.start_timeout, self.timeout = start_timeout, timeout
        self.process: subprocess.Popen[bytes] | None = None
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._errors: IO[bytes] | None = None
        self._info: dict[str, Any] = {}
        self._asked = 0.0
        self._number = 0  # of the last question
        self._outbox, self._inbox = bytearray(), bytearray()

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    def launch(self) -> None:
        """Start the process and return at once; ``wait`` for it afterwards."""
        interpreter = str(self.backend.interpreter or sys.executable)
        # The files outlive the start: closed in close(), as the worker reads them while it loads.
        self._files = tempfile.TemporaryDirectory(prefix="chimera-worker-")
        folder = Path(self._files.name)
        self.network.save(folder / "network.npz")
        options = dict(self.backend.options)
        if options.get("onnx"):
            from chimera_lib.images.network import to_onnx

            (folder / "network.onnx").write_bytes(to_onnx(self.network))
            options["onnx"] = str(folder / "network.onnx")
        config = {
            "executor": executor.__file__,
            "runner": str(self.backend.runner),
            "network": str(folder / "network.npz"),
            "options": options,
        }
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close())
        try:
            self.process = subprocess.Popen(
                [interpreter, str(WORKER), json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment.of(self.backend),
                bufsize=0,
            )
        except OSError as error:
            raise BackendUnavailable(f"{self.name}: cannot run {interpreter} ({error.strerror})") from None
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._asked = time.monotonic()

    def wait(self) -> None:
        """Wait until the launched backend is ready; raises BackendUnavailable with the reason."""
        try:
            header, _ = self._read_message(self.start_timeout)
        except BackendDied as error:
            raise BackendUnavailable(str(error)) from None
        finally:
            if self._files is not None:
                self._files.cleanup()
        if "error" in header:
            self.close()
            raise BackendUnavailable(f"{self.name}: {header['error']}")
        self._info = header["info"]

    def start(self) -> Self:
        """Launch and wait."""
        try:
            self.launch()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def info(self) -> dict[str, Any]:
        """What the backend says it is: library, version, kernels, path of the mapped file, python, numpy, cpu."""
        return dict(self._info)

    def send(self, images: np.ndarray) -> None:
        """Ask for at most ``CHUNK`` images (n, H, W, C), uint8 or float32, without waiting for the answer."""
        self._ask(images, {"dtype": str(images.dtype)} if images.dtype == np.float32 else {})

    def _ask(self, images: np.ndarray, extra: dict[str, Any]) -> None:
        body = np.ascontiguousarray(images).tobytes()
        self._number += 1
        head = json.dumps({"id": self._number, "shape": list(images.shape), "bytes": len(body), **extra}).encode()
        self._asked = time.monotonic()
        self._outbox += struct.pack(">I", len(head)) + head + body
        self._flush()

    def receive(self) -> np.ndarray:
        """Logits float32 (n, classes) of what was sent; raises BackendDied if there will be no answer."""
        header, body = self._answer()
        return np.frombuffer(body, np.float32).reshape(header["shape"])

    def _answer(self) -> tuple[dict[str, Any], bytes]:
        while True:
            header, body = self._read_message(self.timeout)
            if header["id"] == self._number:  # else the answer to a question that was interrupted
                break
        if "error" in header:
            self.close()
            raise BackendDied(f"{self.name}: {header['error']}")
        return header, body

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 (N, classes) of images uint8 (N, H, W, C), predicted one by one on one thread.

        Raises BadImage for a wrong shape or type, BackendDied if the process ends, fails or stops answering.
        """
        check_images(images, self.network.input_shape)
        parts = []
        for first in range(0, len(images), CHUNK):
            self.send(images[first : first + CHUNK])
            parts.append(self.receive())
        return np.concatenate(parts)

    def trace(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Every operation's result, float32, by its name in the network and in order, for one image uint8 (H, W, C).

        Only GEMM backends can tell: ChimeraError for a framework. The rest as ``predict``.
        """
        if self.backend.family != "gemm":
            raise ChimeraError(f"{self.name} is a framework, which keeps its layers to itself; name a GEMM backend")
        check_images(image[None], self.network.input_shape)
        self._ask(image[None], {"trace": True})
        header, body = self._answer()
        sizes = [int(np.prod(shape)) for _, shape in header["values"]]
        parts = np.split(np.frombuffer(body, np.float32), np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(header["values"], parts, strict=True)}

    def close(self) -> None:
        """End the process (it leaves when its standard input closes; killed if it does not) and free its files."""
        process = self.process
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        if self._files is not None:
            self._files.cleanup()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remaining(self, timeout: float) -> float:
        return max(0.0, self._asked + timeout - time.monotonic())

    def _flush(self) -> None:
        """Write the outbox. What an interrupt leaves in it goes out with the next message, so nothing gets torn."""
        assert self.process is not None and self.process.stdin is not None
        if self.process.stdin.closed:
            raise BackendDied(f"{self.name}: its worker has ended")
        pipe = self.process.stdin.fileno()
        while self._outbox:
            if not select.select([], [pipe], [], self._remaining(self.timeout))[1]:
                raise self._hung(self.timeout)
            try:
                del self._outbox[: os.write(pipe, self._outbox[: 1 << 16])]
            except BrokenPipeError:
                raise self._dead() from None

    def _fill(self, count: int, timeout: float) -> None:
        """Read until the inbox holds ``count`` bytes."""
        assert self.process is not None and self.process.stdout is not None
        if self.process.stdout.closed:
            raise BackendDied(f"{self.name}: its worker has ended")
        pipe = self.process.stdout.fileno()
        while len(self._inbox) < count:
            if not select.select([pipe], [], [], self._remaining(timeout))[0]:
                raise self._hung(timeout)
            part = os.read(pipe, 1 << 16)
            if not part:
                raise self._dead()
            self._inbox += part

    def _read_message(self, timeout: float) -> tuple[dict[str, Any], bytes]:
        """The next message, taken from the inbox only when it is there as a whole."""
        self._fill(4, timeout)
        start = 4 + struct.unpack(">I", self._inbox[:4])[0]
        self._fill(start, timeout)
        header = json.loads(self._inbox[4:start])
        self._fill(start + header["bytes"], timeout)
        body = bytes(self._inbox[start : start + header["bytes"]])
        del self._inbox[: start + header["bytes"]]
        return header, body

    def _hung(self, timeout: float) -> BackendDied:
        assert self.process is not None
        self.process.kill()
        self.close()
        return BackendDied(f"{self.name}: no answer in {timeout:g} s; its worker was killed")

    def _dead(self) -> BackendDied:
        """Why the process ended: the signal's name, or its exit status, and the last line that it printed."""
        assert self.process is not None
        try:
            code = self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        last = ""
        if self._errors is not None:
            self._errors.seek(0)
            lines = self._errors.read()[-4000:].decode(errors="replace").split("\n")
            last = next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
        self.close()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return BackendDied(f"{self.name}: its worker was {how}" + (f" ({last})" if last else ""))
