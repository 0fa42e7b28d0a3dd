"""Which store keeps the runs: a folder of this machine or of a network disk, or one that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chimera_lib.runs.store import Store

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from chimera_lib.runs.store import Run


class Keeper(Protocol):
    """What the engines ask of a store; `chimera_lib.runs.store.Store` says what each method does."""

    @property
    def root(self) -> Path | str:
        """The folder, or its address."""

    def find(self, profile: str, notebook: str, run_id: str) -> Run | None:
        """The finished run, or ``None``."""

    def runs(self) -> list[Run]:
        """All finished runs, the oldest first."""

    def partial(self) -> AbstractContextManager[Path]:
        """A scratch folder on this machine for one run."""

    def put(self, scratch: Path, profile: str, notebook: str, run_id: str, *, replace: bool = False) -> Run:
        """Put ``scratch/run`` in place."""

    def keep_failed(self, path: Path, name: str) -> str:
        """Keep what is left of a failed run."""

    def write(self, name: str, content: str) -> str:
        """Write one file below the root, whole or not at all."""

    def check(self) -> None:
        """Raise what keeps runs from being written there."""

    def sweep(self) -> list[Path]:
        """Remove what killed processes have left."""


def open_store(output: Path | str) -> Keeper:
    """The store of a folder: a path of this machine, or an address such as ``s3://bucket/runs``.

    Raises:
        ChimeraError: fsspec, or what it needs for such an address, is not installed.
    """
    if is_remote(output):
        from chimera_lib.runs.remote_store import RemoteStore

        return RemoteStore(str(output))
    return Store(Path(output))


def is_remote(output: Path | str) -> bool:
    """Whether a folder is an address for fsspec."""
    return "://" in str(output)
