"""Archives: what is kept, and what is refused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from chimera_lib import unpacking
from chimera_lib.errors import ChimeraError
from tests.archives import tarball, zipped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("make", [tarball, zipped])
def test_unpacks_files_in_folders(tmp_path: Path, make) -> None:
    archive = make(tmp_path / "a", {"package/one.txt": b"1", "package/deep/er/two.txt": b"22", "top": b""})
    unpacking.unpack(archive, tmp_path / "out")
    assert {n: size for n, (size, _) in unpacking.listing(tmp_path / "out").items()} == {
        "package/one.txt": 1,
        "package/deep/er/two.txt": 2,
        "top": 0,
    }


@pytest.mark.parametrize("make", [tarball, zipped])
@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "C:/out.txt", "a\\..\\out.txt"])  # noqa: S108
def test_refuses_names_that_point_outside(tmp_path: Path, make, name: str) -> None:
    archive = make(tmp_path / "a", {name: b"evil"})
    with pytest.raises(ChimeraError, match="points outside"):
        unpacking.unpack(archive, tmp_path / "in" / "side")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a"]


def test_refuses_links(tmp_path: Path) -> None:
    archive = tarball(tmp_path / "a", {}, links={"link": "/etc/passwd"})
    with pytest.raises(ChimeraError, match="neither a file nor a folder"):
        unpacking.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [tarball, zipped])
def test_a_cut_archive_is_an_error_that_names_it(tmp_path: Path, make) -> None:
    archive = make(tmp_path / "a.bin", {"data": bytes(range(256)) * 40})
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(ChimeraError, match=r"a\.bin cannot be unpacked"):
        unpacking.unpack(archive, tmp_path / "out")


def test_select_keeps_what_is_named_but_no_code(tmp_path: Path) -> None:
    for name in ("package/es5/a.js", "package/es5/input/b.js", "package/es5/setup.py", "package/LICENSE", "package/no"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    unpacking.select(tmp_path, {"package/es5/": "es5/", "package/LICENSE": "LICENCE"}, tmp_path / "out")
    assert set(unpacking.listing(tmp_path / "out")) == {"es5/a.js", "es5/input/b.js", "LICENCE"}


def test_select_says_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="does not hold package/es5/"):
        unpacking.select(tmp_path, {"package/es5/": ""}, tmp_path / "out")


def test_tree_checksum_sees_names_and_bytes_but_no_order() -> None:
    def checksum(files: dict[str, bytes]) -> str:
        return unpacking.tree_checksum({n: (len(b), hashlib.sha256(b).hexdigest()) for n, b in files.items()})

    same = checksum({"a": b"1", "b": b"2"})
    assert same == checksum({"b": b"2", "a": b"1"})
    assert len({same, checksum({"a": b"1", "c": b"2"}), checksum({"a": b"2", "b": b"1"}), checksum({"a": b"1"})}) == 4
