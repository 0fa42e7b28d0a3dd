"""What ``chimera prion orchestrate`` refuses before it runs anything, and which runs it analyses."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from chimera_lib.cli import main
from chimera_lib.prion import faults, priorities, run_folder
from chimera_lib.prion.figures import run as pictures
from chimera_lib.runs import sweep as sweeps
from tests.prion import checkpoints, outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.runs.sweep_file import Sweep


def typed(capsys: pytest.CaptureFixture[str], output: Path, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["prion", "orchestrate", "--priority", "3", "--output-dir", str(output), *map(str, words)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sweep]:
    """The sweeps that were asked for; their cells write outcomes that nobody has measured."""
    found: list[Sweep] = []

    def run(sweep: Sweep, root: Path, **_: Any) -> Any:
        found.append(sweep)
        words = dict(zip(sweep.command, sweep.command[1:], strict=False))
        rows = []
        for number, values in enumerate(sweep.rows):
            one = priorities.Condition(
                values["model"], values["quantization"], *values["tuning"], values["optimizer"], values["control_type"]
            )
            seed = int(words["--seed"]) + values["run"]
            setting = one.setting(faults.ARMS[words["--arm"]], seed=seed, steps=int(words["--steps"]))
            made = replace(outcomes.outcome(rank=60.0 + values["run"] + number % 3), setting=setting)
            cell = tmp_path / "cells" / f"{len(found)}-{number}"
            run_folder.write(run_folder.folder(cell, setting, values["run"]), made, values["run"])
            rows.append({"values": values, "folder": str(cell), "status": "done", "why": ""})
        return SimpleNamespace(rows=lambda: rows, counts=dict)

    monkeypatch.setattr(sweeps, "run", run)
    monkeypatch.setattr(pictures, "draw", lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arm", "as_published"], "faults [], asked for ['double_shift'"),
        (["--steps", "5"], "steps 3, asked for 5"),
        (["--seed", "100"], "asked for 101"),
        (["--lr", "0.5"], "learning_rate 0.001, asked for 0.5"),
        (["--model", "neox-1m", "--steps", "5"], "steps 3, asked for 5"),
    ],
)
def test_a_folder_with_runs_of_other_settings_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep]
) -> None:
    first = ["--model", "neox-0.3m", "--num-runs", "2", "--steps", "3"]
    assert typed(capsys, tmp_path / "out", *first)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    second = words if "--model" in words else [*first, *words]
    status, _, error = typed(capsys, tmp_path / "out", *second)
    assert status == 2 and len(asked) == 1
    assert message in error and "choose another --output-dir" in error and error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_the_runs_of_this_call_are_analysed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep]
) -> None:
    words = ["--model", "neox-0.3m", "--steps", "3", "--num-runs"]
    assert typed(capsys, tmp_path, *words, "3")[0] == 0
    status, said, _ = typed(capsys, tmp_path, *words, "2")
    assert status == 0 and "note: 8 runs of other calls in the same folder left out" in said
    content = json.loads((tmp_path / "priority3_mechanism" / "mechanism_summary.json").read_text())
    assert {one["num_runs"] for one in content["summary"]} == {2} and content["metadata"]["absolute"] is False
    assert len(asked) == 2


def test_magnitudes_reach_the_summary_of_the_published_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep]
) -> None:
    words = ["--model", "neox-0.3m", "--steps", "3", "--num-runs", "2", "--arm", "as_published"]
    assert typed(capsys, tmp_path, *words)[0] == 0
    place = tmp_path / "priority3_mechanism"
    content = json.loads((place / "mechanism_summary.json").read_text())
    assert content["metadata"]["absolute"] is True and len(asked) == 1
    table = (place / "raw_data" / "aggregate_summary_neox-0.3m_fp32.csv").read_text()
    assert table.splitlines()[0].endswith(",absolute_rank_reduction_pct")


@pytest.mark.parametrize(
    ("model", "message"),
    [("neox-2m", "unknown model 'neox-2m' (did you mean"), ("./nowhere", "there is no folder ./nowhere")],
)
def test_a_model_that_is_not_there_is_refused_at_once(
    model: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep]
) -> None:
    status, _, error = typed(capsys, tmp_path / "out", "--model", model)
    assert status == 2 and message in error and error.count("\n") == 1
    assert not asked and not (tmp_path / "out").exists()


def test_a_folder_named_from_here_is_found_from_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.save(tmp_path / "mine", "gpt_neox")
    monkeypatch.chdir(tmp_path)
    status, _, error = typed(capsys, tmp_path / "out", "--model", "mine", "--steps", "3")
    assert status == 0, error
    assert {one["model"] for one in asked[0].rows} == {str(folder.absolute())}


def test_models_of_one_name_are_told_apart_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[Sweep]
) -> None:
    status, _, error = typed(
        capsys, tmp_path / "out", "--priority", 1, "--model", "neox-1m", "--model", "neox-1m", "--steps", "3"
    )
    assert status == 2 and "expected models of different names" in error and not asked
