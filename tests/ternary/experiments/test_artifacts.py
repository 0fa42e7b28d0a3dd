"""Only what the ternary commands wrote is found, wherever it lies and whatever it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import artifacts, checkpoint, recipe
from chimera_lib.ternary.experiments.log import Log
from chimera_lib.ternary.experiments.rows import Rows

if TYPE_CHECKING:
    from pathlib import Path


def test_own_files_are_told_from_others(tmp_path: Path) -> None:
    with Log(tmp_path / "deep" / "log.jsonl", "x") as lines:
        lines.write("final")
    Rows(tmp_path / "rows.jsonl", {"a": 1}).add([{"b": 2}])
    chosen = recipe.Recipe()
    model = recipe.network(chosen)
    checkpoint.save(tmp_path / "c.safetensors", model, recipe.optimizer_of(chosen, model), chosen, {})
    (tmp_path / f".c.safetensors{checkpoint.PARTIAL}").write_bytes(b"half")
    own = {"log.jsonl", "rows.jsonl", "c.safetensors", f".c.safetensors{checkpoint.PARTIAL}"}
    (tmp_path / ".hub.safetensors.partial").write_bytes(b"half of another program's")
    (tmp_path / "mine.jsonl").write_text('{"setting": {"a": 1}}\n{"run_id": 3, "script": "x", "record_type": "y"}\n')
    (tmp_path / "theirs.jsonl").write_text('{"made_by": "somebody", "setting": {"a": 1}}\n')
    (tmp_path / "run.jsonl").write_text('{"run_id": 3, "script": "x", "record_type": "y"}\n')
    (tmp_path / "foreign.jsonl").write_text('{"text": "a data set"}\n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.jsonl").touch()
    save_file({"w": torch.ones(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    (tmp_path / "linked.jsonl").symlink_to(tmp_path / "rows.jsonl")
    assert {path.name for path in artifacts.find(tmp_path)} == own


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="none: no such folder"):
        artifacts.find(tmp_path / "none")
