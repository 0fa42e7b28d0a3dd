"""Downloads: checksums, tools that fail, stall or are missing, servers that stop in the middle."""

from __future__ import annotations

import errno
import hashlib
import http.server
import shutil
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from chimera_lib import fetching
from chimera_lib.errors import ChecksumMismatch
from chimera_lib.fetching import Npm, Pip, SourceUnavailable, Web

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens, the connection is refused at once


def silent(_line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a shell script called ``npm`` first on the PATH; gives the function that writes it."""

    def write(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    (tmp_path / "content").write_bytes(CONTENT)
    return write


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_npm_pack_brings_the_archive(tool, work: Path) -> None:
    tool("cp ../content thing-1.0.tgz; echo $* > arguments")
    archive = Npm("thing", "1.0", SHA256).download(work, silent, 1)
    assert archive.read_bytes() == CONTENT
    assert (work / "arguments").read_text().startswith("pack thing@1.0 ")


def test_a_bad_checksum_names_both_and_deletes_the_file(tool, work: Path) -> None:
    tool("echo other > thing-1.0.tgz")
    got = hashlib.sha256(b"other\n").hexdigest()
    with pytest.raises(ChecksumMismatch, match=f"{got}, expected {SHA256}"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)
    assert not (work / "thing-1.0.tgz").exists()


def test_no_npm(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(work))
    with pytest.raises(SourceUnavailable, match="npm is not installed"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)


def test_a_failing_tool_is_quoted(tool, work: Path) -> None:
    tool("echo 'npm error code E404' >&2; echo 'npm error 404 thing@1.0 is not there' >&2; exit 1")
    with pytest.raises(SourceUnavailable, match=r"404 thing@1\.0 is not there"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)


def test_a_tool_that_succeeds_without_a_file(tool, work: Path) -> None:
    tool("true")
    with pytest.raises(SourceUnavailable, match=r"thing-1\.0\.tgz was not among what came"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)


def test_a_full_disk_that_a_tool_reports_is_a_full_disk(tool, work: Path) -> None:
    tool("echo 'npm error nospc ENOSPC: no space left on device, write' >&2; exit 228")
    with pytest.raises(OSError, match="No space left") as caught:
        Npm("thing", "1.0", SHA256).download(work, silent, 1)
    assert caught.value.errno == errno.ENOSPC


def ends(number: int, seconds: float = 10.0) -> bool:
    """Whether the process is gone within some seconds; a kill is not carried out at once on a busy machine."""
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_stalled_tool_is_ended_with_its_children(tool, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALL", 0.5)
    tool("sleep 60 & echo $! > child; wait")
    with pytest.raises(SourceUnavailable, match="received nothing"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)
    child = int((work / "child").read_text())
    assert ends(child), "the tool's child outlived it"


def test_progress_is_what_the_folder_grows_by(tool, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "EVERY", 0.0)
    tool("cp ../content thing-1.0.tgz; sleep 1")
    lines: list[str] = []
    Npm("thing", "1.0", SHA256).download(work, lines.append, 10_000_000)
    assert "  0.0 MB of 10.0 MB" in lines


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_without_a_network(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    with pytest.raises(SourceUnavailable, match=r"npm failed .*ECONNREFUSED"):
        Npm("thing", "1.0", SHA256).download(work, silent, 1)


def test_pip_without_a_network(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": NOWHERE}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceUnavailable, match="pip could not connect"):
        Pip("thing", "1.0", "thing-1.0.tar.gz", SHA256).download(work, silent, 1)


def test_pip_takes_only_the_archive_with_the_right_hash(tmp_path: Path, work: Path, monkeypatch) -> None:
    source = tmp_path / "index"
    source.mkdir()
    (source / "thing-1.0-py3-none-any.whl").write_bytes(CONTENT)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    wrong = "0" * 64
    with pytest.raises(ChecksumMismatch, match=f"{SHA256}, expected {wrong}"):
        Pip("thing", "1.0", "thing-1.0-py3-none-any.whl", wrong).download(work, silent, 1)
    assert not (work / "thing-1.0-py3-none-any.whl").exists()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /whole with everything, /cut with half of what it announces."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "cut" in self.path else CONTENT)

    def log_message(self, *_: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web_with_md5_and_sha256(site: str, work: Path) -> None:
    for checksum in (MD5, SHA256):
        assert Web(f"{site}/whole.bin", checksum).download(work, silent, 1).read_bytes() == CONTENT


def test_web_with_a_wrong_checksum(site: str, work: Path) -> None:
    with pytest.raises(ChecksumMismatch, match=f"{MD5}, expected {'0' * 32}"):
        Web(f"{site}/whole.bin", "0" * 32).download(work, silent, 1)
    assert not (work / "whole.bin").exists()


def test_web_that_ends_in_the_middle(site: str, work: Path) -> None:
    with pytest.raises(SourceUnavailable, match="ended after"):
        Web(f"{site}/cut.bin", MD5).download(work, silent, 1)


def test_web_without_a_network(work: Path) -> None:
    with pytest.raises(SourceUnavailable, match="no answer"):
        Web(f"{NOWHERE}/whole.bin", MD5).download(work, silent, 1)
