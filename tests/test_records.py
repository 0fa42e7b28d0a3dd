"""The recorded runs: each from a committed state of the code, and each with its command."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera_lib import recorded

FILES = sorted((Path(__file__).resolve().parents[1] / "book" / "recorded").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_names_a_committed_revision_and_its_own_file(path: Path) -> None:
    record = recorded.read(path)
    assert record["revision"] and "+" not in record["revision"], f"made by uncommitted code: {record['revision']}"
    assert record["command"].endswith(f"--record book/recorded/{path.name}")
