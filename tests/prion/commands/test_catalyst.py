"""``chimera prion catalyst``: what it prints, saves and records, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from chimera_lib import recorded
from chimera_lib.errors import ChimeraError
from chimera_lib.prion.catalysts import storage
from chimera_lib.prion.commands import app


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["catalyst", "--model", "neox-0.3m", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


@pytest.mark.slow
def test_saves_and_records(tmp_path: Path) -> None:
    file, record = tmp_path / "one.safetensors", tmp_path / "record.json"
    words = ("--kind", "text_fixed", "--length", "16", "--output", str(file), "--record", str(record))
    said = run(*words)
    assert "neox-0.3m text_fixed seed 0: rho " in said
    metrics = recorded.read(record)["metrics"]
    assert metrics["neox_0_3m_text_fixed_rho"]["n"] == 1
    assert f"rho {metrics['neox_0_3m_text_fixed_rho']['value']:.4f}" in said
    assert storage.load(file).batch(0).labels.shape == (1, 16)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "x.safetensors", "--seeds", "2"), "takes one catalyst"),
        (("--output", "x.pt"), "ends in .safetensors"),
        (("--kind", "text_fixed", "--steps", "3"), "is not optimised"),
        (("--kind", "text_fixd"), "did you mean 'text_fixed'"),
    ],
)
def test_refuses(words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ChimeraError, match=message):
        run(*words)
    assert not list(Path(tmp_path).iterdir())
