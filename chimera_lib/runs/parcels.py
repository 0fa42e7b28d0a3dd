"""Runs made on a node that shares no folder with the one that wants them: packed there, sent, unpacked here."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib.errors import NotebookFailed
from chimera_lib.runs.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimera_lib.runs.store import Run

LARGEST = 512 * 1024**2
"""Bytes of a run that may be sent; more would crowd the memory of the node and of the receiver."""


class Parcels(Store):
    """A store that keeps nothing: what is put into it is packed into ``packed`` for the sender.

    Attributes:
        packed: the files of the last run, or what was left of a failed one; ``None`` before.
    """

    def __init__(self) -> None:
        super().__init__(node_folder())
        self.packed: bytes | None = None

    def find(self, profile: str, notebook: str, run_id: str) -> Run | None:  # noqa: ARG002  (a store's signature)
        """Nothing is kept, so nothing is found."""
        return None

    def put(self, scratch: Path, profile: str, notebook: str, run_id: str, *, replace: bool = False) -> Run:  # noqa: ARG002
        """Pack the run. Raises NotebookFailed where it is too large to be sent."""
        from chimera_lib.runs.store import Run

        run = scratch / "run"
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
        if size > LARGEST:
            raise NotebookFailed(
                f"{notebook}: its files have {size / 1e6:.0f} MB, and without a shared folder at most "
                f"{LARGEST / 1e6:.0f} MB can be sent; give an --output that all nodes share (NFS, s3://...)"
            )
        self.packed = pack(run)
        return Run(notebook, profile, run_id, run, {}, {})

    def keep_failed(self, path: Path, name: str) -> str:
        """Pack what is left of a failed run; its name is the receiver's affair."""
        self.packed = path.read_bytes()
        return f".failed/{name}"


def node_folder() -> Path:
    """Where on this machine runs are made that go elsewhere; its leftovers of killed makers are swept by the next."""
    return Path(tempfile.gettempdir()) / f"chimera-runs-{os.getuid()}"


def pack(folder: Path) -> bytes:
    """All files of a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """Write what `pack` packed; nothing is written outside of the folder."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


@contextlib.contextmanager
def probe(root: Path) -> Iterator[tuple[str, str]]:
    """A file by which another machine can tell whether it sees this folder: its path and its content."""
    root.mkdir(parents=True, exist_ok=True)
    token = os.urandom(16).hex()
    path = root / f".probe-{token[:8]}"
    path.write_text(token)
    try:
        yield str(path), token
    finally:
        path.unlink(missing_ok=True)


def is_shared(path: str, token: str) -> bool:
    """Whether this machine sees the file of `probe`."""
    try:
        return Path(path).read_text() == token
    except OSError:
        return False
