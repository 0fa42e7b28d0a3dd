"""``chimera prion analyze`` as a user types it: what it prints, writes and refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import matplotlib as mpl
import pytest
import typer

from chimera_lib import cli
from chimera_lib.prion.commands import analyze
from tests.prion.analysis import folders

if TYPE_CHECKING:
    from pathlib import Path

mpl.use("Agg")


def chimera(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["prion", "analyze", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def test_a_folder_of_the_source_is_summarised(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results, out = folders.mechanism_folder(tmp_path), tmp_path / "out"
    where = ["--results-dir", results, "--output-dir", out]
    status, said, _ = chimera(capsys, 3, *where, "--model", "410m", "--optimizers", "adamw", "sgd", "--use-absolute")
    assert status == 0
    assert "adamw             3  -3.71 [-23.86, +16.43]      6.14  +2.43 [+2.26, +2.61]" in said
    assert "adamw less sgd, rank reduction: -4.85 points" in said and "claimed greater: cannot tell" in said
    assert "warning: perplexities are of labels shifted twice" in said
    files = ["mechanism_summary.csv", "mechanism_summary.json", "mechanism_comparison.png"]
    assert said.splitlines()[-3:] == [str(out / name) for name in files]
    assert (
        (out / files[0]).read_text().splitlines()[1].startswith("adamw,6.1400,5.4670,2.3700,12.4100,3,5206.9202,0.0000")
    )
    assert sorted(path.name for path in out.iterdir()) == sorted(files)


@pytest.mark.parametrize(
    "words", [["--models", "160m", "70m"], ["--models", "160m,70m"], ["--models=160m", "--models", "70m"]]
)
def test_lists_take_blanks_commas_and_repetition(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    folders.published_folder(tmp_path, 1)
    out = tmp_path / "out"
    status, _, _ = chimera(capsys, 1, *words, "--results-dir", tmp_path, "--output-dir", out)
    assert status == 0
    rows = (out / "scaling_law_summary.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["model_name", "160m", "70m"]
    assert rows[1].split(",")[4] == "-2.5040"  # signed unless asked otherwise


def test_filters_and_margins_reach_the_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = folders.published_folder(tmp_path, 4)
    out = tmp_path / "out"
    options = ["--filter-method", "zscore", "--filter-zscore-threshold", "1.1", "--margin-rank", "2"]
    status, said, _ = chimera(capsys, 4, "--results-dir", results, "--output-dir", out, *options, "--no-absolute")
    content = json.loads((out / "shield_summary.json").read_text())
    assert status == 0 and content["metadata"]["margins"]["rank"] == 2.0
    found = content["sensitivity"]
    assert (found["method"], found["threshold"], found["metric"]) == ("zscore", 1.1, "rank_reduction")
    assert f"filter zscore on rank_reduction: {found['num_filtered']} left out" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["3", "--optimizers", "adam"], "--optimizers adam: no run of that optimizer here; found adamw, sgd"),
        (["3", "--model", "1b"], "--model 1b: no run of that model here; found 410m"),
        (["3", "--models", "410m"], "--models 410m is no option of priority 3: name one model with --model"),
        (["2", "--optimizers", "sgd"], "--optimizers sgd is no option of priority 2, which takes --treatments"),
        (["1", "--models", "1b", "--model", "1b"], "expected one of them"),
        (["1", "--models"], "--models needs one or more names"),
        (["3", "--optimizers", "sgd", "sgd"], "expected different names"),
        (["3", "--filter-metric", "perplexity_post"], "would not be read: choose one with --filter-method"),
        (["3", "--filter-method", "iqr", "--filter-zscore-threshold", "2"], "would not be read: the filter is iqr"),
        (["3", "--margin-rank", "0"], "--margin-rank 0.0: expected a number above 0"),
        (["5"], "5; expected 1 to 4"),
        (["3", "--filter-method", "mad"], "mad"),
        (["3", "--filter-method", "iqr", "--filter-iqr-multiplier", "-1"], "at least 0"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], message: str
) -> None:
    results, out = folders.mechanism_folder(tmp_path), tmp_path / "out"
    status, _, err = chimera(capsys, *words, "--results-dir", results, "--output-dir", out)
    assert status == 2 and message in " ".join(err.split())
    assert "Traceback" not in err and not out.exists()


def test_folders_that_are_none_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, message in (("empty", "it is empty"), ("nowhere", "does not exist")):
        status, _, err = chimera(capsys, 1, "--results-dir", tmp_path / name, "--output-dir", tmp_path / "out")
        assert status == 2 and message in err and err.count("\n") == 1
    (tmp_path / "file").write_text("")
    results = folders.mechanism_folder(tmp_path)
    status, _, err = chimera(capsys, 3, "--results-dir", results, "--output-dir", tmp_path / "file")
    assert status == 2 and "no folder" in err


def test_the_results_are_left_as_they_were(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = folders.mechanism_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    assert chimera(capsys, 3, "--results-dir", results, "--output-dir", tmp_path / "out")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before


def test_the_verb_is_registered() -> None:
    from chimera_lib.prion.commands.options import app

    assert analyze.analyze in [one.callback for one in app.registered_commands]
    assert isinstance(app, typer.Typer)
