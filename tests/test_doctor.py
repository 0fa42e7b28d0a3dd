"""What ``chimera doctor`` says about a machine, also about a poor one."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from chimera_lib import assets, cli, doctor

TITLES = ["versions", "processor", "NumPy's linear algebra", "GPU", "backends", "tools", "data in", "free disk"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "cache"))


def said() -> list[str]:
    lines: list[str] = []
    doctor.report(lines.append)
    return lines


def test_says_every_section_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    lines = said()
    titles = [line for line in lines if not line.startswith(" ")]
    assert len(titles) == len(TITLES) + 1
    assert all(title.startswith(expected) for title, expected in zip(titles, TITLES, strict=False))
    assert f"  numpy {np.__version__}" in lines
    assert f"  python {'.'.join(map(str, sys.version_info[:3]))}" in lines
    assert "  OPENBLAS_CORETYPE=Haswell" in lines
    assert any("openblas" in line and "architecture" in line for line in lines)


def test_names_every_asset_and_how_to_get_it() -> None:
    lines = said()
    for name in assets.ASSETS:
        assert any(line.startswith(f"  {name}: not fetched") and f"chimera data fetch {name}" in line for line in lines)


def test_neither_creates_nor_starts_anything() -> None:
    before = set(sys.modules)
    said()
    assert not assets.root().exists()
    assert not {"torch", "onnxruntime", "openvino", "jax"} & (set(sys.modules) - before)


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the system does not tell its processor's flags")
def test_flags_are_the_processors() -> None:
    flags = doctor.cpu_flags()
    words = Path("/proc/cpuinfo").read_text().split()
    assert flags
    assert all(there == (flag in words) for flag, there in flags.items())


def test_a_poor_machine_is_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", nothing)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    monkeypatch.setattr(doctor, "cpu_flags", lambda: {"sse4_2": True, "avx2": False, "fma": True})
    troubles = list(doctor.troubles())
    for sign in ("0 backends", "pip install", "no npm", "--from FOLDER", "lacks avx2"):
        assert any(sign in line for line in troubles), sign
    assert sum("free; a whole build wants" in line for line in troubles) == 2


def test_a_good_machine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "troubles", lambda: iter(()))
    assert said()[-1] == "nothing in the way"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor"])
    assert caught.value.code == 0
    assert "versions\n  python " in capsys.readouterr().out
