"""The script of a worker process: load one backend, then answer questions on standard input until it closes.

Run as ``INTERPRETER worker.py JSON`` by any Python >= 3.9 with numpy; it knows nothing of this package. JSON names
the files to load by path: ``{"executor", "runner", "network", "options"}``. A runner is a module with
``start(network_path, options, executor) -> model``, the model having ``info() -> dict`` and
``predict(image (H, W, C), uint8 or float32) -> float32 (classes,)``; a GEMM backend's has
``trace(image) -> {name: array}`` as well, every operation's result in order.

A message, in both directions, is four bytes (big-endian length of the header), a JSON header, and as many raw
bytes as the header's ``bytes`` says. The first message goes out when the backend is ready; then each
``{"id", "shape": [N, H, W, C], "bytes": n}`` is answered by logits ``{"id", "shape": [N, classes], "bytes": m}``, or
by ``{"id", "error": reason}``. Images are uint8, or the network's own float32 input where the header says
``"dtype": "float32"``. With ``"trace": true`` and one image, the answer is ``{"id", "values": [[name, shape], ...]}``
and those arrays one after another.
"""

from __future__ import annotations

import os
import sys

if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # noqa: PTH100, PTH120 (before any import)
    del sys.path[0]  # or this folder's files would hide libraries of the same names

import importlib.util
import json
import platform
import select
import signal
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = {"uint8": np.uint8, "float32": np.float32}


def load(name: str, path: str) -> ModuleType:
    """Import the file at ``path`` as module ``name``."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def private_pipes() -> tuple[int, int]:
    """Take standard input and output for the protocol; what a library prints goes to standard error from now on."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return requests, answers


def leave_with_parent(requests: int) -> None:
    """End this process as soon as the parent's end of the pipe closes, in the middle of a computation as well."""

    def watch() -> None:
        poll = select.poll()
        poll.register(requests, 0)  # hang-up is always reported
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def read(pipe: int, count: int) -> bytearray:
    """Exactly ``count`` bytes; raises EOFError if the pipe closes first."""
    data = bytearray()
    while len(data) < count:
        part = os.read(pipe, min(count - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


def write(pipe: int, header: dict[str, Any], body: bytes = b"") -> None:
    """Send one message."""
    head = json.dumps({**header, "bytes": len(body)}).encode()
    data = memoryview(struct.pack(">I", len(head)) + head + body)
    while data:
        data = data[os.write(pipe, data) :]


def processor() -> str:
    """The CPU's model name, or what the platform calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


class Plain:
    """A model from the pair that a short runner returns: its ``predict``, and its facts, the library's name added."""

    def __init__(self, predict: Any, facts: dict[str, Any], options: dict[str, Any]) -> None:
        self.predict, self.facts = predict, {"library": options.get("library", ""), **facts}
        self.trace = getattr(getattr(predict, "__self__", None), "trace", None)  # the executor's, where it is one

    def info(self) -> dict[str, Any]:
        """What the backend says it is."""
        return self.facts


def reason(error: BaseException, install: str = "") -> str:
    """An exception as one line; with the way to install what could not be imported."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and install:
        return f"not installed: {install} ({text})"
    return text if type(error).__name__ == "Unavailable" else f"{type(error).__name__}: {text}"[:400]


def answer(model: Any, header: dict[str, Any], body: bytearray) -> tuple[dict[str, Any], bytes]:
    """Logits of the images in one request, predicted one by one; an exception becomes the answer's ``error``."""
    images = np.frombuffer(body, DTYPES[header.get("dtype", "uint8")]).reshape(header["shape"])
    try:
        if header.get("trace"):
            values = {name: np.ascontiguousarray(value, np.float32) for name, value in model.trace(images[0]).items()}
            shapes = [[name, list(value.shape)] for name, value in values.items()]
            return {"id": header["id"], "values": shapes}, b"".join(value.tobytes() for value in values.values())
        logits = np.stack([np.asarray(model.predict(image), np.float32).reshape(-1) for image in images])
    except Exception as error:  # noqa: BLE001  (whatever the backend raised is the parent's to report)
        return {"id": header["id"], "error": reason(error)}, b""
    return {"id": header["id"], "shape": list(logits.shape)}, logits.tobytes()


def main() -> None:
    """Load the backend, say what it is, and answer until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is meant for the parent, which may well go on
    requests, answers = private_pipes()
    leave_with_parent(requests)
    config = json.loads(sys.argv[1])
    try:
        executor = load("chimera_executor", config["executor"])
        model = load("chimera_runner", config["runner"]).start(config["network"], config["options"], executor)
        if isinstance(model, tuple):
            predict, facts = model
            model = Plain(predict, facts, config["options"])
        facts = {"python": platform.python_version(), "numpy": np.__version__, "cpu": processor(), **model.info()}
    except Exception as error:  # noqa: BLE001  (whatever the backend raised is why it is not available)
        write(answers, {"error": reason(error, config["options"].get("install", ""))})
        return
    write(answers, {"info": facts})
    while True:
        try:
            (size,) = struct.unpack(">I", read(requests, 4))
            header = json.loads(read(requests, size))
            body = read(requests, header["bytes"])
        except EOFError:
            return
        write(answers, *answer(model, header, body))


if __name__ == "__main__":
    main()
