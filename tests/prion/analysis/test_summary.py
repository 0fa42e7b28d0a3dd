"""Whole summaries: what the files hold, how they are written, and that figures show what they should."""

from __future__ import annotations

import csv
import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pytest

from chimera_lib import effects, plotting
from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import figures, groups, reader, report, summary
from chimera_lib.prion.analysis.filters import Filter
from tests.prion.analysis import folders

if TYPE_CHECKING:
    from pathlib import Path

    from chimera_lib.prion.analysis.summary import Summary

mpl.use("Agg")


def summarise(folder: Path, priority: int, **options: Any) -> Summary:
    notes: list[str] = []
    compared = groups.split(reader.read(folder, notes=notes), priority, notes=notes)
    return summary.summarise(compared, priority, notes=notes, **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_files_of_the_mechanism(tmp_path: Path) -> None:
    found = summarise(folders.mechanism_folder(tmp_path), 3, absolute=True)
    written = summary.write(found, tmp_path / "out" / "deep")
    assert [path.name for path in written] == [
        "mechanism_summary.csv", "mechanism_summary.json", "mechanism_comparison.png",
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == sorted(path.name for path in written)
    adamw, sgd = table(written[0])
    assert (adamw["mean_rank_reduction_pct"], adamw["signed_mean_rank_reduction_pct"]) == ("6.1400", "-3.7133")
    assert (adamw["ci95_low_rank_reduction_pct"], adamw["ci95_high_rank_reduction_pct"]) == ("-23.8569", "16.4303")
    assert float(sgd["signed_mean_log_perplexity_change"]) == pytest.approx(0.9609, abs=1e-4)
    assert adamw["double_shifted"] == "True" and adamw["learning_rate"] == "0.0001" and adamw["failed_runs"] == "0"
    content = json.loads(written[1].read_text())
    assert content["statistical_test"]["p_value"] == pytest.approx(0.3966208715181173)
    assert content["summary"][0]["std_dev_rank_reduction_pct"] == pytest.approx(5.466982714441303)
    assert content["metadata"]["absolute"] is True and content["metadata"]["margins"] == {
        "rank": 1.0,
        "log_perplexity": 0.1,
    }
    (less,) = content["verdicts"]["rank_reduction_pct"]["differences"]
    assert less["effect"] == pytest.approx(-4.8533, abs=1e-4) and less["answer"] == "cannot tell"
    assert [len(content["verdicts"]["rank_reduction_pct"][name]) for name in ("changes", "paired", "scaling")] == [
        2,
        1,
        0,
    ]
    assert written[2].read_bytes().startswith(b"\x89PNG")


def test_signed_is_the_default_and_magnitudes_stand_beside(tmp_path: Path) -> None:
    written = summary.write(summarise(folders.mechanism_folder(tmp_path), 3), tmp_path / "out")
    adamw = table(written[0])[0]
    assert adamw["mean_rank_reduction_pct"] == adamw["signed_mean_rank_reduction_pct"] == "-3.7133"
    assert adamw["mean_absolute_rank_reduction_pct"] == "6.1400"


def test_outliers_do_not_own_the_change_of_perplexity(tmp_path: Path) -> None:
    for run, after in enumerate((200.0, 220.0, 2.9e13), 1):
        path = tmp_path / f"pythia_160m_pythia-160m_run{run:02d}_fp16"
        folders.write_run(path, perplexities=(100.0, after), after=1.9 + run / 100)
    (one,) = summarise(tmp_path, 1).described
    logs = one["log_perplexity_change"]
    assert logs["mean"] == pytest.approx((math.log(2) + math.log(2.2) + math.log(2.9e11)) / 3)
    assert logs["factor"] == pytest.approx((2 * 2.2 * 2.9e11) ** (1 / 3))


def test_verdicts_of_the_placebo_and_the_shield(tmp_path: Path) -> None:
    found = summarise(folders.published_folder(tmp_path, 2), 2)
    changes = {one.groups[0]: one for one in found.verdicts["rank_reduction_pct"]["changes"]}
    assert changes["eigen_prion"].claim == "greater" and changes["random_text"].claim == "equivalent"
    assert changes["random_text"].answer == "cannot tell"  # three copies of one run
    assert {one.groups for one in found.verdicts["rank_reduction_pct"]["differences"]} == {
        ("eigen_prion", "gaussian_noise"), ("eigen_prion", "random_text"), ("gaussian_noise", "random_text"),
    }  # fmt: skip
    alone = effects.welch_t([-2.37, 3.64, -12.41], [2.33, 3.04, 3.84])
    assert found.welch[0]["left_out"] == ["random_text"] and found.welch[0]["p"] == pytest.approx(alone.p)
    assert "(without random_text: no spread)" in report.as_text(found)
    found = summarise(folders.published_folder(tmp_path, 4), 4)
    differences = {one.groups: one for one in found.verdicts["rank_reduction_pct"]["differences"]}
    assert differences["fp16", "8bit"].answer == "does not hold"  # it differs, the other way round
    assert found.welch[0]["p"] == pytest.approx(0.0168, abs=1e-4)
    assert "Welch ANOVA, rank_reduction_pct: F = 23.70" in report.as_text(found)


def test_failed_runs_are_listed_and_never_averaged(tmp_path: Path) -> None:
    place = folders.mechanism_folder(tmp_path)
    path = place / "pythia_410m_pythia-410m_run02_fp16"
    (path / "failed.json").write_text('{"error": "Diverged", "reason": "loss is NaN"}')
    found = summarise(place, 3)
    written = summary.write(found, tmp_path / "out")
    assert json.loads(written[1].read_text())["failed_runs"] == [
        {"group": "adamw", "run": 2, "folder": path.name, "reason": "Diverged: loss is NaN"}
    ]
    adamw = table(written[0])[0]
    assert (adamw["num_runs"], adamw["failed_runs"]) == ("2", "1")
    assert float(adamw["mean_rank_reduction_pct"]) == pytest.approx((-2.37 - 12.41) / 2)
    assert "failed: adamw run 2: Diverged: loss is NaN" in report.as_text(found)


def test_a_group_of_failures_alone_is_there_without_numbers(tmp_path: Path) -> None:
    place = folders.mechanism_folder(tmp_path)
    for path in place.glob("*_sgd"):
        (path / "metrics.jsonl").unlink()
        (path / "failed.json").write_text('{"error": "OutOfMemory"}')
    found = summarise(place, 3)
    sgd = table(summary.write(found, tmp_path / "out")[0])[1]
    assert (sgd["num_runs"], sgd["mean_rank_reduction_pct"], sgd["failed_runs"]) == ("0", "", "3")
    assert found.verdicts["rank_reduction_pct"]["differences"] == []


def test_filters_are_a_sensitivity_analysis(tmp_path: Path) -> None:
    place = folders.published_folder(tmp_path, 1)
    found = summarise(place, 1, chosen_filter=Filter("iqr"))
    plain = summarise(place, 1)
    assert found.published == plain.published
    rows = {row["model_name"]: row for row in table(summary.write(found, tmp_path / "out")[0])}
    assert (rows["160m"]["num_runs"], rows["160m"]["filtered_num_runs"]) == ("10", "8")
    content = json.loads((tmp_path / "out" / "scaling_law_summary.json").read_text())
    assert content["sensitivity"]["num_filtered"] == sum(10 - int(row["filtered_num_runs"]) for row in rows.values())
    assert {one["run"] for one in content["sensitivity"]["groups"]["160m"]["removed"]} == {4, 5}
    text = report.as_text(summarise(place, 1, chosen_filter=Filter("zscore")))
    assert "0 left out" in text and "2.846" in text and "can never leave one out" in text


def test_our_runs_by_seed(tmp_path: Path) -> None:
    for run in range(1, 6):
        folders.our_run(tmp_path, "neox-1m", run, "fp32", logs=(4.0, 5.0 + run + 0.01 * run**2), after=29.0 + run / 10)
        fixed = {"treatment": "text_fixed", "logs": (4.0, 4.9 + run), "after": 29.2 + run / 10}
        folders.our_run(tmp_path, "neox-1m", run, "fp32_text_fixed", **fixed)
    found = summarise(tmp_path, 2)
    (by_seed,) = found.verdicts["log_perplexity_change"]["paired"]
    (apart,) = found.verdicts["log_perplexity_change"]["differences"]
    assert by_seed.effect == pytest.approx(apart.effect) and by_seed.n == (5, 5)
    assert by_seed.differs and not apart.differs  # the seeds' spread, which both share, is taken out
    assert by_seed.text in report.as_text(found)
    assert found.warnings == [] and not found.described[0]["double_shifted"]
    assert found.described[0]["other_changes"]["participation_ratio_change"]["mean"] == -1


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("priority", [1, 2, 3, 4])
def test_figures_say_what_their_bars_mean(tmp_path: Path, priority: int, absolute: bool) -> None:
    import matplotlib.pyplot as plt

    figure = figures.draw(summarise(folders.published_folder(tmp_path, priority), priority, absolute=absolute))
    try:
        legend = " ".join(text.get_text() for text in figure.legends[0].get_texts())
        assert "95 % interval" in legend and ("standard deviation" in legend) == absolute
        ranks, logs = figure.axes
        assert "rank reduction, %" in ranks.get_ylabel() and "nats" in logs.get_ylabel()
        words = " ".join(text.get_text() for text in ranks.texts) + ranks.get_title(loc="right")
        assert (ranks.get_xscale() == "log") == (priority == 1)
        assert ("slope" if priority == 1 else "Holm p") in words
        if priority == 2:
            assert "*, Holm p = 0.027" in words and "ns, Holm p = 0.568" in words
        assert plotting.png(figure).startswith(b"\x89PNG")
    finally:
        plt.close(figure)


@pytest.mark.parametrize(("p", "mark"), [(0.0005, "***"), (0.001, "**"), (0.02, "*"), (0.05, "ns"), (1.0, "ns")])
def test_significance_marks(p: float, mark: str) -> None:
    assert figures.mark(p) == mark


def test_a_single_run_of_unknown_size_is_drawn_and_written(tmp_path: Path) -> None:
    folders.write_run(tmp_path / "mine_fp32", perplexities=(100.0, math.inf))
    found = summarise(tmp_path, 1)
    written = summary.write(found, tmp_path / "out")
    assert table(written[0])[0]["model_size"] == ""
    assert json.loads(written[1].read_text())["summary"][0]["std_dev_rank_reduction_pct"] is None


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    found = summarise(folders.mechanism_folder(tmp_path), 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ChimeraError, match="cannot write to"):
        summary.write(found, tmp_path / "file")
    out = tmp_path / "out"
    (out / "mechanism_summary.json").mkdir(parents=True)
    (out / "mechanism_summary.json" / "x").write_text("")
    with pytest.raises(ChimeraError, match="cannot write to"):
        summary.write(found, out)
    assert sorted(path.name for path in out.iterdir()) == ["mechanism_summary.csv", "mechanism_summary.json"]
    shutil.rmtree(out)
