"""The cache: complete or absent, whatever happens while something is fetched into it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from chimera_lib import assets, unpacking
from chimera_lib.asset_table import Asset
from chimera_lib.errors import AssetMissing, ChecksumMismatch, ChimeraError, UnknownName
from chimera_lib.fetching import Npm
from tests.archives import tarball

FILES = {"data/one.bin": os.urandom(40_000), "data/deep/two.bin": os.urandom(300), "README": b"not kept"}
KEPT = {"one.bin": FILES["data/one.bin"], "deep/two.bin": FILES["data/deep/two.bin"]}
CONTENT = unpacking.tree_checksum({n: (len(b), hashlib.sha256(b).hexdigest()) for n, b in KEPT.items()})

NPM = """#!/bin/sh
# A stand-in for npm that takes its time: the archive arrives in twenty pieces.
echo $$ > "$ARCHIVE.pid"
size=$(wc -c < "$ARCHIVE")
for i in $(seq 0 19); do
  tail -c +$((i * (size / 20 + 1) + 1)) "$ARCHIVE" | head -c $((size / 20 + 1)) >> thing-1.0.tgz
  sleep "${PAUSE:-0}"
done
"""

DRIVER = """
import json, sys
from chimera_lib import assets
from chimera_lib.asset_table import Asset
from chimera_lib.fetching import Npm
fields = json.loads(sys.argv[1])
assets.ASSETS["thing"] = Asset(sources=(Npm("thing", "1.0", fields.pop("archive")),), **fields)
assets.fetch("thing")
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "published").mkdir()
    return tarball(tmp_path / "published" / "thing-1.0.tgz", FILES)


@pytest.fixture
def thing(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """An asset of 40 kB whose npm is a script, in a cache of its own."""
    asset = Asset("thing", "a thing", "none", "1.0", 40_000, 40_300, CONTENT, source_of(archive), {"data/": ""})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(NPM)
    (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("ARCHIVE", str(archive))
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(assets.ASSETS, "thing", asset)
    return asset


def source_of(archive: Path) -> tuple[Npm]:
    return (Npm("thing", "1.0", unpacking.sha256_of(archive)),)


def leftovers() -> list[Path]:
    return list((assets.root() / ".partial").glob("*"))


def test_fetch_then_use(thing: Asset) -> None:
    said: list[str] = []
    with pytest.raises(AssetMissing, match="chimera data fetch thing"):
        assets.path("thing")
    folder = assets.fetch("thing", report=said.append)
    assert {n: (folder / n).read_bytes() for n in KEPT} == KEPT
    assert not (folder / "README").exists()
    assert "0.0 MB from npm package thing 1.0" in said[0]
    assert assets.path("thing") == folder == assets.verify("thing")
    assert assets.checksums(["thing"]) == {"thing": thing.content}
    assert leftovers() == []


def test_a_second_fetch_downloads_nothing(thing: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = assets.fetch("thing")
    before = (folder / "one.bin").stat().st_mtime_ns
    monkeypatch.setenv("PATH", "/nowhere")
    assert assets.fetch("thing") == folder
    assert (folder / "one.bin").stat().st_mtime_ns == before


def test_damage_is_named_and_mended(thing: Asset) -> None:
    folder = assets.fetch("thing")
    (folder / "deep" / "two.bin").write_bytes(b"\0" * 300)
    with pytest.raises(
        ChecksumMismatch, match=r"deep/two\.bin has checksum \w+, expected \w+; chimera data fetch thing"
    ):
        assets.verify("thing")
    said: list[str] = []
    assets.fetch("thing", report=said.append)
    assert "damaged" in said[0]
    assert assets.verify("thing") == folder


def test_a_file_too_many_or_too_few_is_damage(thing: Asset) -> None:
    folder = assets.fetch("thing")
    (folder / "three.bin").write_bytes(b"3")
    with pytest.raises(ChecksumMismatch, match=r"three\.bin"):
        assets.verify("thing")
    (folder / "three.bin").unlink()
    (folder / "one.bin").unlink()
    with pytest.raises(ChecksumMismatch, match=r"one\.bin has checksum nothing"):
        assets.verify("thing")
    (folder / unpacking.MANIFEST).write_text("not json")
    with pytest.raises(ChecksumMismatch, match=f"expected {CONTENT}"):
        assets.verify("thing")


def test_from_a_folder_with_the_archive_or_its_content(
    thing: Asset, archive: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    first = assets.fetch("thing", archive.parent)
    assert archive.is_file()
    shutil.rmtree(first)
    unpacking.unpack(archive, tmp_path / "unpacked")
    assert assets.fetch("thing", tmp_path / "unpacked") == first


def test_from_a_folder_with_something_else(thing: Asset, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match=r"nowhere is not a folder; name the one that holds thing-1\.0\.tgz"):
        assets.fetch("thing", tmp_path / "nowhere")
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "one.bin").write_bytes(b"other")
    with pytest.raises(ChecksumMismatch, match=f"expected {CONTENT}"):
        assets.fetch("thing", tmp_path / "other")
    archive.write_bytes(b"broken")
    with pytest.raises(ChecksumMismatch, match="expected"):
        assets.fetch("thing", archive.parent)
    assert archive.read_bytes() == b"broken", "the user's own file is not deleted"
    assert not assets.present("thing")
    assert leftovers() == []


def test_no_source_says_why_and_the_way_out(thing: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AssetMissing) as caught:
        assets.fetch("thing")
    message = str(caught.value)
    assert "npm is not installed" in message
    assert "thing-1.0.tgz" in message
    assert "chimera data fetch thing --from FOLDER" in message
    assert "\n" not in message


def test_unknown_name(thing: Asset) -> None:
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        assets.fetch("cifar")


def test_too_little_room_is_said_before_anything_is_fetched(thing: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(assets.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ChimeraError, match=r"has 0\.0 MB free and thing needs 0\.2 MB .* CHIMERA_DATA"):
        assets.fetch("thing")


def test_a_disk_that_fills_up_midway(thing: Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unpacking.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        assets.fetch("thing")
    assert not assets.present("thing")
    assert leftovers() == []


@pytest.fixture
def small_disk(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here (root is needed)")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_real_disk_that_fills_up_midway(thing: Asset, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(small_disk))
    monkeypatch.setattr(assets, "_check_room", lambda _: None)
    with pytest.raises(OSError, match="No space left") as caught:
        assets.fetch("thing", Path(os.environ["ARCHIVE"]).parent)
    assert caught.value.errno == errno.ENOSPC
    assert not assets.present("thing")
    assert leftovers() == []


def driver(asset: Asset, pause: float) -> subprocess.Popen[bytes]:
    names = ("name", "what", "licence", "version", "size", "unpacked", "content", "keep")
    fields = {name: getattr(asset, name) for name in names} | {"archive": asset.sources[0].checksum}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, json.dumps(fields)],
        env=os.environ | {"PAUSE": str(pause)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_ten_kills_leave_nothing_that_is_taken_for_whole(thing: Asset) -> None:
    rng, interrupted = random.Random(1), 0
    for _ in range(10):
        process = driver(thing, pause=0.02)
        while not leftovers() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        interrupted += bool(leftovers())
        if assets.present("thing"):
            assets.verify("thing")
            shutil.rmtree(assets.path("thing"))
    assert interrupted >= 5, "the kills came too late to mean anything"
    assert assets.fetch("thing", report=lambda _: None) == assets.verify("thing")
    assert leftovers() == []


def test_a_download_ends_with_the_process_that_asked_for_it(thing: Asset, archive: Path) -> None:
    process = driver(thing, pause=5)
    while not leftovers() or not Path(f"{archive}.pid").exists():
        assert process.poll() is None
        time.sleep(0.01)
    tool = int(Path(f"{archive}.pid").read_text())
    process.kill()
    process.communicate(timeout=5)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(tool) and psutil.Process(tool).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the download goes on for nobody"
        time.sleep(0.01)


def test_two_processes_fetch_once(thing: Asset) -> None:
    processes = [driver(thing, pause=0.05) for _ in range(2)]
    said = [process.communicate(timeout=60)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted("fetching 0.0 MB" in one for one in said) == [False, True]
    assert sorted("waiting for another process" in one for one in said) == [False, True]
    assets.verify("thing")


def test_the_table_is_well_formed() -> None:
    for name, asset in assets.ASSETS.items():
        assert name == asset.name
        assert re.fullmatch(r"[a-z0-9-]+", name)
        assert re.fullmatch(r"[0-9a-f]{64}", asset.content)
        assert asset.sources
        assert bool(asset.keep) != bool(asset.converter)
        assert min(asset.size, asset.unpacked) > 10_000
        assert asset.what
        assert asset.licence
        for source in asset.sources:
            assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", source.checksum)
            assert asset.version in source.archive or source.archive.startswith("cifar-10")
