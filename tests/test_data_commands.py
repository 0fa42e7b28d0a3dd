"""``chimera data`` as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from chimera_lib import assets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def chimera(tmp_path: Path):
    """Runs ``chimera data ...`` with a cache of its own; returns status, output and error output."""

    def run(*words: str, **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "chimera_lib.cli", "data", *words],
            env=os.environ | {"CHIMERA_DATA": str(tmp_path / "cache")} | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_list_names_every_asset(chimera) -> None:
    status, out, _ = chimera("list")
    assert status == 0
    assert all(
        any(line.startswith(name) and "not fetched" in line for line in out.splitlines()) for name in assets.ASSETS
    )


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (["fetch", "cifar"], {}, ["'cifar'", "cifar10"]),
        (["fetch", "mathjax"], {"PATH": "/nowhere"}, ["npm is not installed", "mathjax-3.2.2.tgz", "--from"]),
        (["fetch", "mathjax"], {"npm_config_registry": "http://127.0.0.1:9"}, ["could not fetch mathjax", "--from"]),
        (["fetch", "mathjax", "--from", "/nowhere"], {}, ["/nowhere is not a folder", "mathjax-3.2.2.tgz"]),
        (["fetch", "mathjax", "minilm", "--from", "."], {}, ["one asset at a time", "2"]),
        (["verify", "minilm"], {}, ["'minilm' is not in", "chimera data fetch minilm"]),
    ],
)
def test_wrong_input_is_one_line_and_status_2(chimera, words: list[str], environment: dict, says: list[str]) -> None:
    status, _, err = chimera(*words, **environment)
    assert status == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in says), err


def test_a_bad_archive_is_named_with_both_checksums(chimera, tmp_path: Path) -> None:
    (tmp_path / "mathjax-3.2.2.tgz").write_bytes(b"not it")
    status, _, err = chimera("fetch", "mathjax", "--from", str(tmp_path))
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert assets.get("mathjax").sources[0].checksum in err


def test_a_full_disk_is_one_line_and_status_2(chimera, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here (root is needed)")
    try:
        status, _, err = chimera("fetch", "mathjax", CHIMERA_DATA=str(disk))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert str(disk) in err
    assert "CHIMERA_DATA" in err


def test_verify_with_nothing_there_says_so(chimera) -> None:
    status, out, _ = chimera("verify")
    assert status == 0
    assert "nothing in" in out
