"""Take files out of archives without trusting the names in them, and checksum what came out."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

MANIFEST = "manifest.json"
CHUNK = 1 << 20  # bytes


def sha256_of(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file under ``folder`` but the manifest: relative POSIX path -> (bytes, sha256), sorted by path."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {n: ((folder / n).stat().st_size, sha256_of(folder / n)) for n in names if n != MANIFEST}


def tree_checksum(files: dict[str, tuple[int, str]]) -> str:
    """One sha256 for a whole folder, from what ``listing`` returns: the same bytes under the same names."""
    lines = (f"{digest}  {name}\n" for name, (_, digest) in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def flush_to_disk(folder: Path) -> None:
    """Wait until every file under ``folder`` is on the disk, so that a power cut cannot empty it after its rename."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def safe_name(name: str, archive: Path) -> PurePosixPath:
    """A member's name, if it stays inside the folder it is unpacked into.

    Raises:
        ChimeraError: the name is absolute, climbs out with ``..``, or holds a backslash, a colon or a NUL.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0"):
        raise ChimeraError(f"{archive.name} holds a file named {name!r}, which points outside of it; nothing unpacked")
    return path


def members(archive: Path) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """Name and open stream of each file of a zip, wheel or tar archive; folders are passed over.

    Raises:
        ChimeraError: an unsafe name, a member that is neither file nor folder (links, devices), or a broken archive.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    name = safe_name(info.filename, archive)
                    if not info.is_dir():
                        with zipped.open(info) as stream:
                            yield name, stream
            return
        with tarfile.open(archive) as tarred:
            for member in tarred:
                name = safe_name(member.name, archive)
                if not member.isfile() and not member.isdir():
                    raise ChimeraError(f"{archive.name} holds {member.name!r}, which is neither a file nor a folder")
                content = tarred.extractfile(member)
                if content is not None:  # None for a folder
                    yield name, content
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ChimeraError(f"{archive} cannot be unpacked ({error}); delete it and fetch it again") from error


def unpack(archive: Path, target: Path) -> None:
    """Unpack all files of ``archive`` under the folder ``target``; symbolic links and ``..`` are refused."""
    for name, stream in members(archive):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, CHUNK)


def select(folder: Path, keep: dict[str, str], target: Path) -> None:
    """Copy the files of ``folder`` whose path starts with a key of ``keep`` to the value's place under ``target``.

    A key that ends in ``/`` names a folder, any other a file: ``{"package/es5/": "es5/", "package/README": "README"}``.

    Raises:
        ChimeraError: nothing is there under one of the keys.
    """
    for prefix, place in keep.items():
        found = sorted((folder / prefix).rglob("*")) if prefix.endswith("/") else [folder / prefix]
        files = [p for p in found if p.is_file() and p.suffix not in {".py", ".pyc"}]
        if not files:
            raise ChimeraError(f"{folder} does not hold {prefix}; name a folder that does, or the archive's own folder")
        for path in files:
            copy = target / place / path.relative_to(folder / prefix) if prefix.endswith("/") else target / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
