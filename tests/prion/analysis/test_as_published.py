"""The published summaries, column by column, from folders made of the published runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chimera_lib.prion.analysis import as_published, files, groups, reader
from tests.prion.analysis import folders

if TYPE_CHECKING:
    from pathlib import Path

# group -> mean, standard deviation, least and most of the magnitudes, to the four decimals that are printed
SUMMARIES: dict[int, dict[str, tuple[float, ...]]] = {
    1: {
        "70m": (2.9750, 3.0399, 0.0300, 9.7200, 10, 3.3187, 3.4173),
        "160m": (4.0680, 6.6470, 0.1100, 22.1600, 10, 2.8591, 2.9307),
        "410m": (5.8160, 3.9580, 2.3700, 13.0200, 10, 2.3953, 2.4421),
        "1b": (7.6460, 4.4338, 2.9100, 14.3800, 10, 2.5515, 2.7466),
    },
    2: {
        "eigen_prion": (6.1400, 5.4670, 2.3700, 12.4100, 3),
        "gaussian_noise": (3.0700, 0.7554, 2.3300, 3.8400, 3),
        "random_text": (1.5000, 0.0000, 1.5000, 1.5000, 3),
    },
    3: {"adamw": (6.1400, 5.4670, 2.3700, 12.4100, 3), "sgd": (2.3733, 2.5112, 0.8100, 5.2700, 3)},
    4: {
        "fp16": (6.4533, 1.5593, 4.7600, 7.8300, 3),
        "8bit": (0.4633, 0.3769, 0.1100, 0.8600, 3),
        "4bit": (3.5167, 2.5787, 0.5400, 5.0700, 3),
    },
}
MECHANISM_CSV = """\
adamw,6.1400,5.4670,2.3700,12.4100,3,5206.9202,0.0000,5206.9202,5206.9202,59472.5560,4253.1189,55918.4417,64184.7834,\
1042.1830,81.6820,973.9255,1132.6823
sgd,2.3733,2.5112,0.8100,5.2700,3,5206.9202,0.0000,5206.9202,5206.9202,13869.7479,3289.5873,10755.5735,17310.4016,\
166.3714,63.1772,106.5631,232.4499"""
COLUMNS = (
    "optimizer,mean_rank_reduction_pct,std_dev_rank_reduction_pct,min_rank_reduction_pct,max_rank_reduction_pct,num_runs,"
    "mean_baseline_perplexity,std_dev_baseline_perplexity,min_baseline_perplexity,max_baseline_perplexity,"
    "mean_post_attack_perplexity,std_dev_post_attack_perplexity,min_post_attack_perplexity,max_post_attack_perplexity,"
    "mean_perplexity_increase_pct,std_dev_perplexity_increase_pct,min_perplexity_increase_pct,"
    "max_perplexity_increase_pct"
)
SIZE_COLUMNS = (
    "model_name,model_size,model_size_millions,num_runs,mean_rank_reduction_pct,std_dev_rank_reduction_pct,"
    "min_rank_reduction_pct,max_rank_reduction_pct,mean_baseline_rank,mean_post_attack_rank,"
) + COLUMNS.partition("num_runs,")[2]


def rows(folder: Path, priority: int, *, absolute: bool = True) -> dict[str, dict[str, Any]]:
    compared = groups.split(reader.read(folder), priority)
    return {name: as_published.row(priority, name, runs, absolute=absolute) for name, runs in compared.items()}


@pytest.mark.parametrize("priority", SUMMARIES)
def test_magnitudes_are_the_published_ones(tmp_path: Path, priority: int) -> None:
    found = rows(folders.published_folder(tmp_path, priority), priority)
    assert list(found) == list(SUMMARIES[priority])
    for name, expected in SUMMARIES[priority].items():
        row = found[name]
        measured = [row[f"{kind}_rank_reduction_pct"] for kind in ("mean", "std_dev", "min", "max")] + [row["num_runs"]]
        assert [f"{one:.4f}" for one in measured] == [f"{one:.4f}" for one in expected[:5]]
        if priority == 1:  # ranks after the attack were computed back from changes of two decimals
            ranks = (row["mean_baseline_rank"], row["mean_post_attack_rank"])
            assert ranks == pytest.approx(expected[5:], abs=2e-4)


def test_the_headline_is_of_the_higher_learning_rate(tmp_path: Path) -> None:
    row = rows(folders.published_folder(tmp_path, 1, rate=2e-4), 1)["1b"]
    kinds = ("mean", "std_dev", "min", "max")
    assert [f"{row[f'{kind}_rank_reduction_pct']:.4f}" for kind in kinds] == ["26.4460", "13.2664", "4.1600", "46.0700"]
    assert row["mean_post_attack_rank"] == pytest.approx(2.7773, abs=2e-4)


def test_every_column_of_the_mechanism_is_the_published_one(tmp_path: Path) -> None:
    found = rows(folders.mechanism_folder(tmp_path), 3)
    assert ",".join(found["adamw"]) == COLUMNS
    path = files.write_csv(tmp_path / "summary.csv", list(found.values()))
    assert path.read_text() == f"{COLUMNS}\n{MECHANISM_CSV}\n"


def test_the_columns_of_sizes_are_the_published_ones(tmp_path: Path) -> None:
    row = rows(folders.published_folder(tmp_path, 1), 1)["70m"]
    assert ",".join(row) == SIZE_COLUMNS
    assert (row["model_size"], row["model_size_millions"]) == (70e6, 70.0)


def test_without_tables_the_same_within_rounding(tmp_path: Path) -> None:
    found = rows(folders.mechanism_folder(tmp_path, tables=False), 3)["adamw"]
    assert found["mean_rank_reduction_pct"] == pytest.approx(6.14, abs=0.005)


def test_signed_means_of_the_same_runs(tmp_path: Path) -> None:
    found = rows(folders.published_folder(tmp_path, 3), 3, absolute=False)
    assert found["adamw"]["mean_rank_reduction_pct"] == pytest.approx((-2.37 + 3.64 - 12.41) / 3)
    assert found["adamw"]["min_rank_reduction_pct"] == -12.41


def test_tests_are_the_published_ones(tmp_path: Path) -> None:
    def tests(priority: int) -> dict[str, Any]:
        folder = folders.published_folder(tmp_path, priority)
        return as_published.tests(priority, groups.split(reader.read(folder), priority))

    assert tests(1) == {}
    placebo = tests(2)["statistical_tests"]
    assert placebo["anova"]["f_statistic"] == pytest.approx(1.6237688102276573)
    assert placebo["anova"]["p_value"] == pytest.approx(0.2731337898885851)
    assert placebo["anova"]["significant"] is False and placebo["anova"]["error"] is None
    assert {pair: one["p_value"] for pair, one in placebo["pairwise"].items()} == pytest.approx({
        "eigen_prion vs gaussian_noise": 0.222584333980616,
        "eigen_prion vs random_text": 0.6610219724360741,
        "gaussian_noise vs random_text": 0.00046896146711720565,
    })  # fmt: skip
    mechanism = tests(3)["statistical_test"]
    assert mechanism["t_statistic"] == pytest.approx(-0.9484188880545299)
    assert mechanism["p_value"] == pytest.approx(0.3966208715181173)
    assert mechanism["test_type"] == "t-test" and mechanism["significant"] is False
    shield = tests(4)["statistical_tests"]
    assert shield["anova"]["f_statistic"] == pytest.approx(17.242909971647656)
    assert shield["anova"]["p_value"] == pytest.approx(0.00325495458383261) and shield["anova"]["significant"] is True
    assert shield["pairwise"]["fp16 vs 8bit"]["p_value"] == pytest.approx(0.0017184928089988365)
    assert shield["pairwise"]["8bit vs 4bit"]["p_value"] == pytest.approx(0.22147799071178437)


def test_single_runs_have_means_and_no_tests(tmp_path: Path) -> None:
    place = tmp_path / "raw_data"
    folders.write_run(place / "pythia_410m_pythia-410m_fp16")
    folders.write_run(place / "pythia_410m_pythia-410m_fp16_sgd", after=2.0)
    compared = groups.split(reader.read(tmp_path), 3)
    row = as_published.row(3, "adamw", compared["adamw"], absolute=True)
    assert row["mean_rank_reduction_pct"] == pytest.approx(5.0) and row["std_dev_rank_reduction_pct"] is None
    found = as_published.tests(3, compared)["statistical_test"]
    assert found["t_statistic"] is found["p_value"] is found["significant"] is None
