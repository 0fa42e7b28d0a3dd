"""The store of runs in a folder that fsspec knows: ``s3://bucket/runs``, ``gs://...``, ``file:///...``.

Such stores cannot rename a folder in one step. A run is made on this machine and its files are uploaded one by one, the
one that lists the others with their sizes last: until it is there, and unless all that it lists is there, there is no
run. Two that upload the same run at the same time write the same files; the last one stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, NotebookFailed
from chimera_lib.runs.parcels import node_folder
from chimera_lib.runs.record import METRICS
from chimera_lib.runs.store import ENVIRONMENT, Run, Store, complete, write_sizes

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


_WITHOUT_FOLDERS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "oss"}
"""Stores of keys, not of folders, in which fsspec would make a bucket of a mistyped name."""


@dataclass(frozen=True)
class RemoteRun(Run):
    """A finished run that lies elsewhere: ``folder`` is its address, and its files must be fetched to be read."""

    folder: str  # type: ignore[assignment]

    @property
    def executed(self) -> Path:
        """Refused: the file is not on this machine."""
        raise ChimeraError(f"{self.folder} is not on this machine; fetch it first, as with `aws s3 sync`")


class RemoteStore:
    """Finished runs below one address; the methods are those of `chimera_lib.runs.store.Store`.

    Args:
        url: the folder, as ``s3://bucket/runs``.

    Raises:
        ChimeraError: fsspec, or what it needs for such an address, is not installed, or the protocol is unknown.
    """

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs

            self._fs, path = url_to_fs(url)
        except ImportError as error:
            raise ChimeraError(
                f"{url} cannot be used: {error}; pip install 'chimera-lib[cluster]', or give a folder on a disk"
            ) from error
        except ValueError as error:
            raise ChimeraError(f"{url} cannot be used: {error}; expected a folder, s3://bucket/folder, ...") from error
        self.root = url.rstrip("/")
        self._path = str(path).rstrip("/")
        self._scratch = Store(node_folder())

    def find(self, profile: str, notebook: str, run_id: str) -> RemoteRun | None:
        """The finished run with this id, or ``None`` where there is none or a file of it is missing or cut short."""
        name = f"{profile}/{notebook}/{run_id}"
        folder = f"{self._path}/{name}"
        try:
            environment = json.loads(self._fs.cat_file(f"{folder}/{ENVIRONMENT}"))
            metrics = json.loads(self._fs.cat_file(f"{folder}/{METRICS}"))
            self._fs.invalidate_cache()
            found = self._fs.find(folder, detail=True)
            there = {path[len(folder) + 1 :]: facts["size"] for path, facts in found.items()}
            sizes: dict[str, int] = environment["files"]
            whole = all(there.get(file) == size for file, size in sizes.items())
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None
        if not whole or not complete(sizes):
            return None
        return RemoteRun(notebook, profile, run_id, f"{self.root}/{name}", metrics, environment)

    def runs(self) -> list[Run]:
        """All finished runs, the oldest first."""
        self._fs.invalidate_cache()
        found: list[Run] = []
        for path in self._fs.glob(f"{self._path}/*/*/*/*/{ENVIRONMENT}"):
            profile, part, title, run_id, _ = path[len(self._path) + 1 :].split("/")
            run = None if profile.startswith(".") else self.find(profile, f"{part}/{title}", run_id)
            if run is not None:
                found.append(run)
        return sorted(found, key=lambda run: (run.environment.get("date", ""), run.notebook, run.id))

    def partial(self) -> AbstractContextManager[Path]:
        """A scratch folder on this machine for one run, gone when the block ends."""
        return self._scratch.partial()

    def put(self, scratch: Path, profile: str, notebook: str, run_id: str, *, replace: bool = False) -> RemoteRun:
        """Upload ``scratch/run``, the list of its files last; a whole run that is there stays unless ``replace``."""
        there = self.find(profile, notebook, run_id)
        if there is not None and not replace:
            return there
        run, folder = scratch / "run", f"{self._path}/{profile}/{notebook}/{run_id}"
        if there is not None or self._fs.exists(folder):  # first what makes it whole, then the rest
            self._remove(f"{folder}/{ENVIRONMENT}")
            self._fs.rm(folder, recursive=True)
        try:
            for name in write_sizes(run):
                self._upload(run / name, f"{folder}/{name}")
            self._upload(run / ENVIRONMENT, f"{folder}/{ENVIRONMENT}")
        except Exception as error:  # every store has errors of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise NotebookFailed(f"{notebook}: its run cannot be uploaded to {self.root}: {reason}") from error
        stored = self.find(profile, notebook, run_id)
        if stored is None:
            raise RuntimeError(f"{self.root}/{profile}/{notebook}/{run_id} was changed while it was uploaded")
        return stored

    def keep_failed(self, path: Path, name: str) -> str:
        """Upload what is left of a failed run to ``.failed/name``, where it is no run; returns where that is."""
        self._upload(path, f"{self._path}/.failed/{name}")
        return f"{self.root}/.failed/{name}"

    def write(self, name: str, content: str) -> str:
        """Write a file of this name below the root; returns where that is."""
        self._make_folder_of(f"{self._path}/{name}")
        self._fs.pipe_file(f"{self._path}/{name}", content.encode())
        return f"{self.root}/{name}"

    def check(self) -> None:
        """Write a file and remove it. Raises ChimeraError where that is refused."""
        try:
            self.write(".check", "")
            self._remove(f"{self._path}/.check")
        except Exception as error:  # every store has errors of its own: no key, no bucket, no connection
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ChimeraError(
                f"{self.root} cannot be written to: {reason}; check the address and the keys, or give another --output"
            ) from error

    def sweep(self) -> list[Path]:
        """Remove what killed processes have left on this machine."""
        return self._scratch.sweep()

    def _upload(self, source: Path, target: str) -> None:
        self._make_folder_of(target)
        self._fs.put_file(str(source), target)

    def _make_folder_of(self, path: str) -> None:
        kinds = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        if not _WITHOUT_FOLDERS & set(kinds):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    def _remove(self, path: str) -> Any:
        if self._fs.exists(path):
            self._fs.rm_file(path)
