"""Run folders that are broken, failed or of other settings: none counts as finished, none joins a table."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import faults, run_folder
from tests.prion import outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.prion.experiment import Outcome, Setting


def put(root: Path, run: int, **setting: object) -> tuple[Path, Outcome]:
    outcome = outcomes.outcome(rank=49.0, seed=42 + run, **setting)
    place = run_folder.folder(root, outcome.setting, run)
    return run_folder.write(place, outcome, run), outcome


def rows(root: Path, setting: Setting) -> list[dict[str, str]]:
    with run_folder.aggregate(root, setting).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_failure_takes_the_place_of_a_finished_run(tmp_path: Path) -> None:
    place, outcome = put(tmp_path, 1)
    wild = replace(outcome.setting, learning_rate=1e30, steps=77)
    run_folder.write_failure(place, wild, 1, "Diverged", "the loss is nan")
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "failed.json"]
    assert not run_folder.is_finished(place, wild, 1)
    assert rows(tmp_path, wild) == []
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_says_it_failed_is_not_finished(tmp_path: Path) -> None:
    place, outcome = put(tmp_path, 1)
    (place / "failed.json").write_text("{}")  # beside records that look whole
    assert not run_folder.is_finished(place, outcome.setting, 1)
    assert rows(tmp_path, outcome.setting) == []


@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl"])
@pytest.mark.parametrize("left", [0, 40, 300])
def test_files_cut_short_make_a_run_unfinished(tmp_path: Path, file: str, left: int) -> None:
    put(tmp_path, 2)
    place, outcome = put(tmp_path, 1)
    path = place / file
    path.write_text(path.read_text()[:left])
    assert not run_folder.is_finished(place, outcome.setting, 1)
    run_folder.refuse_others(tmp_path, replace(outcome.setting, seed=43), 1)
    assert [row["run"] for row in rows(tmp_path, outcome.setting)] == ["2"]
    run_folder.write(place, outcome, 1)
    assert run_folder.is_finished(place, outcome.setting, 1)


def test_a_last_record_that_is_missing_makes_a_run_unfinished(tmp_path: Path) -> None:
    place, outcome = put(tmp_path, 1)
    path = place / "metrics.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert not run_folder.is_finished(place, outcome.setting, 1)


def test_a_table_sums_up_runs_of_one_setting(tmp_path: Path) -> None:
    _, outcome = put(tmp_path, 1)
    put(tmp_path, 2, learning_rate=0.5)
    put(tmp_path, 3)
    assert [row["run"] for row in rows(tmp_path, outcome.setting)] == ["1", "3"]


def test_magnitudes_stand_beside_signed_changes_where_that_fault_is_in(tmp_path: Path) -> None:
    for run, rank in ((1, 55.0), (2, 45.0)):
        outcome = outcomes.outcome(rank=rank, seed=42 + run, faults=faults.CORRECTED.having("absolute"))
        run_folder.write(run_folder.folder(tmp_path, outcome.setting, run), outcome, run)
    found = rows(tmp_path, outcome.setting)
    assert [row["rank_reduction_pct"] for row in found] == ["-10.00", "10.00"]
    assert [row["absolute_rank_reduction_pct"] for row in found] == ["10.00", "10.00"]
    _, fair = put(tmp_path / "fair", 1)
    assert "absolute_rank_reduction_pct" not in rows(tmp_path / "fair", fair.setting)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 102}, "base seed 42, asked for 100"),
        ({"faults": faults.CORRECTED.having("absolute")}, r"faults \[\], asked for \['absolute'\]"),
    ],
)
def test_runs_of_another_call_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    _, outcome = put(tmp_path, 1, treatment="text_fixed")
    joining = replace(outcome.setting, treatment="eigen_prion", seed=44)
    run_folder.refuse_others(tmp_path, joining, 2)
    with pytest.raises(ChimeraError, match=f"{message}; choose another --output-dir"):
        run_folder.refuse_others(tmp_path, replace(joining, **change), 2)  # type: ignore[arg-type]
    with pytest.raises(ChimeraError, match="steps 4, asked for 9"):
        run_folder.refuse_others(tmp_path, replace(joining, steps=9), 2)


def test_the_reason_of_a_failure_is_kept(tmp_path: Path) -> None:
    setting = outcomes.outcome().setting
    place = run_folder.folder(tmp_path, setting, 1)
    run_folder.write_failure(place, setting, 1, "Diverged", "the loss is nan")
    assert json.loads((place / "failed.json").read_text())["reason"] == "the loss is nan"
