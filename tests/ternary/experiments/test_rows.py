"""Rows outlive a kill, and never mix with those of another setting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments.rows import Rows

if TYPE_CHECKING:
    from pathlib import Path


def test_rows_are_read_again(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "deep" / "a.jsonl", {"steps": 3, "seeds": (0, 1)})
    rows.add([{"n": 1}, {"n": 2}])
    rows.add([{"n": 3}])
    again = Rows(tmp_path / "deep" / "a.jsonl", {"steps": 3, "seeds": (0, 1)})
    assert [row["n"] for row in again.rows] == [row["n"] for row in rows.rows] == [1, 2, 3]


def test_a_row_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Rows(path, {}).add([{"n": 1}])
    path.write_bytes(path.read_bytes() + b'{"n": ')
    rows = Rows(path, {})
    assert rows.rows == [{"n": 1}]
    rows.add([{"n": 2}])
    assert Rows(path, {}).rows == [{"n": 1}, {"n": 2}]


def test_another_setting_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    Rows(path, {"steps": 3}).add([{"n": 1}])
    with pytest.raises(ChimeraError, match=r"another setting \(steps 3, now 4\).*--output"):
        Rows(path, {"steps": 4})
    with pytest.raises(ChimeraError, match="more 1, now None"):
        path.write_text('{"setting": {"steps": 3, "more": 1}}\n')
        Rows(path, {"steps": 3})
    path.write_text('{"n": 1}\n')
    with pytest.raises(ChimeraError, match="does not say how its rows were made"):
        Rows(path, {"steps": 3})
