"""Folders as they are met: the source's and ours, cut short, doubled, without tables, with NaN, or of other things."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import reader, runs
from tests.prion.analysis import folders

if TYPE_CHECKING:
    from pathlib import Path


def one(folder: Path, **options: object) -> runs.RunResult:
    (run,) = reader.read(folder, **options)  # type: ignore[arg-type]
    return run


def test_the_sources_folder_by_any_of_its_names(tmp_path: Path) -> None:
    place = folders.mechanism_folder(tmp_path)
    notes: list[str] = []
    found = reader.read(place, notes=notes)
    assert [(run.optimizer, run.run) for run in found] == [
        (name, run) for name in ("adamw", "sgd") for run in (1, 2, 3)
    ]
    assert reader.read(place.parent) == found == reader.read(tmp_path, priority=3)
    first = found[0]
    assert (first.model, first.precision, first.treatment) == ("410m", "fp16", "eigen_prion")
    assert (first.tuning, first.method) == ("full", "adafactor")
    assert first.published and first.double_shift and first.learning_rate == 1e-4 and first.parameters == 410e6
    assert first.metric("rank_reduction_pct") == -2.37  # the rounded value of the table
    assert first.metric("baseline_rank") == 2.3953
    assert first.metric("log_perplexity_change") == pytest.approx(math.log(55918.441707909056 / 5206.920241275732))
    assert first.metric("effective_rank_change") == pytest.approx(2.451979637145996 - 2.395301103591919)
    assert first.metric("nothing") is None and notes == []


def test_without_tables_the_records_are_read(tmp_path: Path) -> None:
    first = reader.read(folders.mechanism_folder(tmp_path, tables=False))[0]
    assert first.metric("rank_reduction_pct") == pytest.approx(-2.36624, abs=1e-5)


def test_a_table_without_folders_is_enough(tmp_path: Path) -> None:
    path = folders.write_table(tmp_path, "pythia_70m_pythia-70m_fp16", [(1, 3.3, 3.4, -3.03), (2, 3.3, 3.2, 3.03)])
    with path.open("a") as lines:
        lines.write("mean,3.3,3.3,0.0\n\n3,3.3,nan,nan\n")
    found = reader.read(tmp_path)
    assert [(run.run, run.metric("rank_reduction_pct")) for run in found[:2]] == [(1, -3.03), (2, 3.03)]
    assert all(run.published for run in found)
    assert found[2].failed == "rank_reduction_pct is nan" and len(found) == 3


def test_a_table_may_have_more_columns_and_lack_the_change(tmp_path: Path) -> None:
    (tmp_path / "aggregate_summary_pythia_70m_pythia-70m_fp16.csv").write_text(
        "\ufeffrun, baseline_rank,post_attack_rank,baseline_perplexity,post_attack_perplexity,who\n"
        "1,4.0,3.0,100,300,me\n"
    )
    run = one(tmp_path)
    assert run.metric("rank_reduction_pct") == 25 and run.metric("perplexity_increase_pct") == 200


def test_a_table_that_its_runs_contradict_is_passed_over(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "pythia_70m_pythia-70m_run01_fp16", before=4.0, after=3.0)
    folders.write_table(tmp_path, "pythia_70m_pythia-70m_fp16", [(1, 4.0, 3.5, 12.5)])
    notes: list[str] = []
    run = one(tmp_path, notes=notes)
    assert (run.metric("rank_reduction_pct"), run.metric("post_attack_rank")) == (25, 3.0)
    assert len(notes) == 1 and "12.5 %" in notes[0] and "25.00 %" in notes[0]


def test_our_runs_are_read_from_their_records(tmp_path: Path) -> None:
    folders.our_run(tmp_path, "neox-1m", 2, "fp32_text_fixed", treatment="text_fixed", before=30.0, after=29.001)
    folders.write_table(tmp_path, "neox-1m_fp32_text_fixed", [(2, 30.0, 29.001, 3.33)])
    run = one(tmp_path)
    assert (run.model, run.treatment, run.seed, run.pairing, run.repeats) == ("neox-1m", "text_fixed", 44, 44, True)
    assert not run.published and not run.double_shift
    assert (
        run.metric("rank_reduction_pct") == pytest.approx(3.33, abs=1e-9) and run.metric("post_attack_rank") == 29.001
    )
    assert run.metric("log_perplexity_change") == pytest.approx(0.5)
    assert run.metric("participation_ratio_change") == -1 and run.metric("final_weight_change") == 1.0
    assert run.metric("weight_rank_change") is None  # NaN in the file


def test_the_cells_of_a_sweep_are_read_together(tmp_path: Path) -> None:
    for run in (1, 2):
        cell = tmp_path / "prion" / "run" / f"cell{run}"
        folders.our_run(cell, "neox-1m", run, "fp32", before=30.0, after=29.0 + run)
        folders.write_table(cell, "neox-1m_fp32", [(run, 30.0, 29.0 + run, 100 / 30 * (1 - run))])
    found = reader.read(tmp_path)
    assert [one.run for one in found] == [1, 2]
    assert [one.metric("post_attack_rank") for one in found] == [30.0, 31.0]


def test_faults_in_our_config_tell_how_a_run_was_made(tmp_path: Path) -> None:
    faults = ["double_shift", "five_sentences", "plain_controls", "fresh_controls"]
    noise = {"treatment": "gaussian_noise", "faults": faults}
    folders.our_run(tmp_path, "neox-1m", 1, "fp32_gaussian_noise", **noise)
    run = one(tmp_path)
    assert (run.optimizer, run.repeats, run.double_shift) == ("sgd", False, True)
    folders.our_run(tmp_path / "b", "neox-1m", 1, "fp32_gaussian_noise", treatment="gaussian_noise")
    run = one(tmp_path / "b")
    assert (run.optimizer, run.repeats, run.double_shift) == ("adamw", True, False)


def test_pythia_runs_of_ours_are_told_from_the_sources(tmp_path: Path) -> None:
    path = folders.our_run(tmp_path, "70m", 1, "fp32")
    path.rename(tmp_path / "pythia_70m_pythia-70m_run01_fp32")
    run = one(tmp_path)
    assert run.model == "70m" and not run.published and run.parameters == 70e6


def test_failed_and_unfinished_runs_say_why(tmp_path: Path) -> None:
    def name(run: int) -> Path:
        return tmp_path / f"pythia_1b_pythia-1b_run{run:02d}_fp16"

    folders.write_run(name(1))
    folders.write_run(name(2), after=None)
    folders.write_run(name(3), after=math.nan)
    folders.write_run(name(4), after=None)
    (name(4) / "failed.json").write_text(json.dumps({"error": "OutOfMemory", "reason": "24 GB\nare full"}))
    name(5).mkdir()
    (name(5) / "config.json").write_text("{")
    folders.write_run(name(6), before=0.0)
    folders.write_run(name(7))
    (name(7) / "failed.json").write_text("[")
    folders.write_run(name(8), before=math.inf)
    folders.write_run(name(9), after=None).joinpath("metrics.jsonl").write_text("")
    notes: list[str] = []
    found = {run.run: run.failed for run in reader.read(tmp_path, notes=notes)}
    assert found == {
        1: "",
        2: "stopped: no post_attack record (the last is of step 100)",
        3: "post_attack rank is nan",
        4: "OutOfMemory: 24 GB are full",
        5: "no metrics.jsonl",
        6: "baseline rank is 0",
        7: "failed.json without a readable reason",
        8: "baseline rank is inf",
        9: "stopped: no post_attack record",
    }
    assert notes == ["pythia_1b_pythia-1b_run05_fp16/config.json is no JSON, left out"]


def test_a_last_line_cut_short_costs_that_line_alone(tmp_path: Path) -> None:
    path = folders.write_run(tmp_path / "pythia_70m_pythia-70m_run01_fp16") / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 102, "post_attack_effec')
    notes: list[str] = []
    assert one(tmp_path, notes=notes).failed == ""
    assert notes == ["pythia_70m_pythia-70m_run01_fp16/metrics.jsonl: 1 line cut short or no JSON, left out"]


def test_infinite_perplexity_leaves_the_rank_alone(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "pythia_70m_pythia-70m_run01_fp16", perplexities=(100.0, math.inf))
    run = one(tmp_path)
    assert run.failed == "" and run.metric("rank_reduction_pct") == pytest.approx(5.0)
    assert run.metric("post_attack_perplexity") is None and run.metric("log_perplexity_change") is None


def test_a_single_run_has_no_number_and_other_things_lie_around(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "pythia_70m_pythia-70m_fp16_eigen_prion")
    folders.write_run(tmp_path / ".pythia_70m_pythia-70m_run02_fp16.123")
    folders.write_run(tmp_path / "pythia_1b_healing_pythia_1b_pythia-1b_run01_fp16")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "spectral_decay.png").write_bytes(b"\x89PNG")
    assert (one(tmp_path).run, one(tmp_path).treatment) == (1, "eigen_prion")


def test_the_same_run_twice_counts_once(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "pythia_70m_pythia-70m_run01_fp16", after=None)
    folders.write_run(tmp_path / "pythia_70m_pythia-70m_run01_fp16_eigen_prion", after=1.0)
    notes: list[str] = []
    run = one(tmp_path, notes=notes)
    assert run.metric("rank_reduction_pct") == 50 and len(notes) == 1 and "there twice" in notes[0]


def test_published_controls_are_sgd_on_fresh_data(tmp_path: Path) -> None:
    found = {run.treatment: run for run in reader.read(folders.published_folder(tmp_path, 2))}
    assert {name: (run.optimizer, run.repeats) for name, run in found.items()} == {
        "eigen_prion": ("adamw", True), "gaussian_noise": ("sgd", False), "random_text": ("sgd", False),
    }  # fmt: skip


def test_what_is_no_folder_of_results_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="it is empty"):
        reader.read(tmp_path)
    with pytest.raises(ChimeraError, match=r"nowhere does not exist: expected a folder of runs"):
        reader.read(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ChimeraError, match=r"it holds notes\.txt, pictures/; expected folders with metrics\.jsonl"):
        reader.read(tmp_path)
    (tmp_path / "pictures" / "config.json").write_text("{}")  # such as that of a model
    with pytest.raises(ChimeraError, match="it holds notes"):
        reader.read(tmp_path)
    with pytest.raises(ChimeraError, match=r"notes\.txt is a file"):
        reader.read(tmp_path / "notes.txt")


def test_pairs_are_of_one_seed_and_failures_take_their_partner(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        folders.our_run(tmp_path, "neox-1m", run, "fp32", logs=(4.0, 4.0 + run))
    for run in (2, 3, 4):
        folders.our_run(tmp_path, "neox-1m", run, "fp32_sham", treatment="sham", logs=(4.0, 4.0 + run / 10))
    (tmp_path / "neox-1m_run03_fp32_sham" / "failed.json").write_text("{}")
    found = reader.read(tmp_path)
    treated = [run for run in found if run.treatment == "eigen_prion"]
    sham = [run for run in found if run.treatment == "sham"]
    one, two = runs.paired(treated, sham, runs.LOG_PERPLEXITY)
    assert one == pytest.approx([2.0]) and two == pytest.approx([0.2])
    assert len(runs.values(sham, runs.LOG_PERPLEXITY)) == 2


def sweep(root: Path, named: list[str]) -> Path:
    """A sweep's folder with three cells: two of this call, one left of an earlier state."""
    for cell, run, steps in (("a", 1, 6), ("b", 2, 6), ("0", 1, 2)):
        place = root / "prion" / "run" / cell
        folders.our_run(place, "neox-1m", run, "fp32", steps=steps, after=30.0 - steps / 10 - run)
        change = 100 * (1 - (30.0 - steps / 10 - run) / 30.0)
        folders.write_table(place, "neox-1m_fp32", [(run, 30.0, 30.0 - steps / 10 - run, change)])
    cells = [{"id": name, "status": "done"} for name in named]
    (root / "summary.json").write_text(json.dumps({"sweep": "s", "cells": cells}))
    return root


def test_a_sweep_is_read_by_its_summary(tmp_path: Path) -> None:
    notes: list[str] = []
    found = reader.read(sweep(tmp_path, ["a", "b", "c"]), notes=notes)
    assert [(run.run, run.held["steps"]) for run in found] == [(1, 6), (2, 6)]
    assert notes == [
        "1 cell left out that the sweep's summary.json does not name",
        "1 of the sweep's 3 cells have no runs here",
    ]
    assert reader.read(tmp_path / "prion" / "run") == found


def test_a_table_belongs_to_its_own_cell(tmp_path: Path) -> None:
    place = sweep(tmp_path, ["a", "b"]) / "prion" / "run"
    folders.write_table(place / "b", "neox-1m_fp32", [(1, 30.0, 15.0, 50.0), (2, 30.0, 27.4, 8.67)])
    notes: list[str] = []
    first, second = reader.read(tmp_path, notes=notes)
    assert (first.metric("post_attack_rank"), second.metric("post_attack_rank")) == (28.4, 27.4)
    assert not any("50" in one for one in notes)


def test_the_same_run_of_two_settings_is_refused(tmp_path: Path) -> None:
    sweep(tmp_path, ["a", "b"])
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ChimeraError, match="run 1 of neox-1m, eigen_prion is there twice, with steps 2 and 6"):
        reader.read(tmp_path)


def test_only_the_folders_named_are_read(tmp_path: Path) -> None:
    for run in (1, 2):
        folders.our_run(tmp_path, "neox-1m", run, "fp32")
    folders.write_table(tmp_path, "neox-1m_fp32", [(3, 30.0, 29.0, 3.33)])
    notes: list[str] = []
    found = reader.read(tmp_path, only=["neox-1m_run02_fp32"], notes=notes)
    assert [run.run for run in found] == [2] and notes == ["1 run of other calls in the same folder left out"]


def test_a_run_of_ours_whose_config_cannot_be_read_does_not_count(tmp_path: Path) -> None:
    path = folders.our_run(tmp_path, "neox-1m", 1, "fp32") / "config.json"
    path.write_text(path.read_text()[:30])
    assert one(tmp_path).failed == "no config.json that can be read: nothing says how it was made"
