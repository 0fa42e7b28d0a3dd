"""Runs of the experiment: what is measured, what is equal between arms, what is kept on disk, and how runs fail."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion import experiment, faults, matching, metrics, models, run_folder, showing
from chimera_lib.prion.analysis import reader
from chimera_lib.prion.experiment import Setting

if TYPE_CHECKING:
    from pathlib import Path

BASE = Setting(model="neox-0.3m", treatment="text_fixed", steps=8, seed=3)


@pytest.fixture(scope="module")
def outcome() -> experiment.Outcome:
    torch.set_num_threads(1)
    return experiment.run(BASE, trail=(0, 2, 8))


def test_a_run_measures_before_and_after_and_along_the_way(outcome: experiment.Outcome) -> None:
    assert outcome.before.positions >= 2000
    assert len(outcome.losses) == 8
    assert outcome.losses[-1] < outcome.losses[0]
    assert outcome.trail[0]["log_perplexity"] == pytest.approx(outcome.before.log_perplexity, rel=1e-6)
    assert outcome.trail[8]["log_perplexity"] == pytest.approx(outcome.after.log_perplexity, rel=1e-6)
    assert outcome.trail[8]["weight_change"] == pytest.approx(outcome.weight_change)
    assert outcome.log_perplexity_change > 0.01  # eight steps on one passage do harm
    assert outcome.parameters == 331_136


def test_the_rank_reduction_is_signed() -> None:
    before = metrics.Measurement(1.0, 50.0, 1, 1, 1, math.nan, 2000, ())
    assert experiment.reduction(before, replace(before, effective_rank=45.0)) == pytest.approx(10)
    assert experiment.reduction(before, replace(before, effective_rank=55.0)) == pytest.approx(-10)


def test_the_same_setting_gives_the_same_numbers(outcome: experiment.Outcome) -> None:
    again = experiment.run(BASE, trail=(0, 2, 8))
    assert again.losses == outcome.losses
    assert again.after == outcome.after


def test_a_sham_changes_nothing() -> None:
    found = experiment.run(replace(BASE, treatment="sham", steps=3))
    assert found.log_perplexity_change == 0
    assert found.rank_reduction == 0
    assert found.weight_change == 0


def test_the_headline_follows_the_faults(outcome: experiment.Outcome) -> None:
    assert outcome.headline == outcome.rank_reduction
    padded = replace(outcome, setting=replace(BASE, faults=faults.CORRECTED.having("five_sentences")))
    own = experiment.reduction(outcome.published_before, outcome.published_after)
    assert padded.headline == own != outcome.headline
    absolute = replace(padded, setting=replace(BASE, faults=padded.setting.faults.having("absolute")))
    assert absolute.headline == abs(own)


def test_catalysts_of_all_precisions_are_made_on_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    load = models.load

    def watched(name: str, **options: object) -> models.Loaded:
        asked.append(options.get("precision", "fp32"))
        return load(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(showing.models, "load", watched)
    showing._corrected.cache_clear()
    adapted = replace(BASE, treatment="eigen_prion", tuning="lora", precision="4bit", catalyst_steps=1, steps=1)
    whole = replace(BASE, treatment="eigen_prion", catalyst_steps=1, steps=1)
    shown = [showing.make(one, load(one.model, precision=one.precision, tuning=one.tuning)) for one in (adapted, whole)]
    assert shown[0] is shown[1]
    assert asked == ["fp32"]


@pytest.mark.parametrize(("precision", "optimizer"), [("bf16", "adamw"), ("fp16", "adafactor")])
def test_whole_models_in_half_precision_take_the_catalyst(precision: str, optimizer: str) -> None:
    half = replace(
        BASE, treatment="eigen_prion", precision=precision, optimizer=optimizer, catalyst_steps=1, steps=2
    )  # fmt: skip
    found = experiment.run(half, trail=(0, 2))
    exact = experiment.run(replace(half, precision="fp32"))
    assert found.losses == pytest.approx(exact.losses, rel=0.02)
    assert found.trail[2]["loss"] < found.losses[0]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UnknownName, match="eigenprion"):
        Setting(treatment="eigenprion")
    with pytest.raises(ChimeraError, match="100 steps of 2 tokens"):
        Setting(length=2)
    with pytest.raises(ChimeraError, match=r"eigen_prion_hard with the fault unused_directions: expected eigen_prion"):
        Setting(treatment="eigen_prion_hard", faults=faults.PUBLISHED)
    Setting(treatment="eigen_prion_hard", faults=faults.PUBLISHED.without("unused_directions"))


@pytest.mark.parametrize("name", ["1b", "pythia-1b", "EleutherAI/pythia-1b"])
def test_all_names_of_a_large_model_mean_the_same(name: str) -> None:
    large = Setting(model=name, faults=faults.PUBLISHED)
    assert large.lean
    assert large.rate == 2e-4
    small = replace(large, model=name.replace("1b", "410m"))
    assert not small.lean
    assert small.rate == 1e-4


# --- comparisons at equal distance -------------------------------------------------------------------------------


def along(outcome: experiment.Outcome, points: list[tuple[float, float, float, float]]) -> experiment.Outcome:
    names = ("weight_change", "loss", "log_perplexity", "effective_rank")
    return replace(outcome, trail={step: dict(zip(names, point, strict=True)) for step, point in enumerate(points)})


def test_runs_are_read_where_they_have_gone_equally_far(outcome: experiment.Outcome) -> None:
    fast = along(outcome, [(0, 9, 3, 50), (4, 5, 3.4, 49), (8, 1, 3.8, 48)])
    slow = along(outcome, [(0, 9, 3, 50), (1, 8, 3.2, 50), (2, 7, 3.4, 50)])
    assert matching.common_weight_change([fast, slow]) == 2
    assert matching.at_weight_change(fast, 2) == pytest.approx((0.2, 1.0))
    assert matching.at_weight_change(slow, 2) == pytest.approx((0.4, 0.0))
    assert matching.common_loss([fast, slow]) == 7
    assert matching.at_loss(fast, 7) == pytest.approx((0.2, 1.0))
    assert matching.at_loss(slow, 12) == pytest.approx((0, 0))  # it began below that
    with pytest.raises(ChimeraError, match="moved its weights by 2 at most, asked for 3"):
        matching.at_weight_change(slow, 3)
    with pytest.raises(ChimeraError, match="went from 9 to 7, asked for 5"):
        matching.at_loss(slow, 5)
    with pytest.raises(ChimeraError, match="not measured along its way"):
        matching.common_loss([replace(slow, trail={})])


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_run_folder_is_read_back_by_the_analysis(tmp_path: Path, outcome: experiment.Outcome) -> None:
    place = run_folder.folder(tmp_path, BASE, 1)
    assert place.name == "neox-0.3m_run01_fp32_text_fixed"
    run_folder.write(place, outcome, 1)
    run_folder.aggregate(tmp_path, BASE)
    assert sorted(path.name for path in place.iterdir()) == [
        "config.json",
        "loss.png",
        "metrics.jsonl",
        "spectral_decay.png",
    ]
    (found,) = reader.read(tmp_path)
    assert (found.model, found.treatment, found.optimizer, found.seed) == ("neox-0.3m", "text_fixed", "adamw", 3)
    assert found.metric("rank_reduction_pct") == pytest.approx(outcome.rank_reduction, abs=0.01)
    assert found.metric("log_perplexity_change") == pytest.approx(outcome.log_perplexity_change)
    assert found.parameters == 331_136
    assert not list(tmp_path.glob(".*"))


def test_names_are_those_of_the_source() -> None:
    pythia = Setting(model="410m", precision="fp16")
    assert run_folder.series(pythia, suffix=False) == ("pythia_410m_pythia-410m", "fp16")
    assert run_folder.series(pythia, suffix=True)[1] == "fp16_eigen_prion"
    assert run_folder.series(replace(pythia, optimizer="sgd"), suffix=False)[1] == "fp16_sgd"
    adapted = Setting(model="410m", tuning="lora", treatment="text_fixed", optimizer="sgd-momentum")
    assert run_folder.series(adapted, suffix=False)[1] == "fp32_text_fixed_lora_sgd_momentum"


def test_a_folder_with_another_run_is_not_overwritten(tmp_path: Path, outcome: experiment.Outcome) -> None:
    place = run_folder.folder(tmp_path, BASE, 1)
    run_folder.write(place, outcome, 1)
    assert run_folder.is_finished(place, BASE, 1)
    with pytest.raises(ChimeraError, match=r"holds a run with steps 8, asked for 9; choose another --output-dir"):
        run_folder.is_finished(place, replace(BASE, steps=9), 1)


def test_a_failed_run_says_why_and_is_tried_again(tmp_path: Path, outcome: experiment.Outcome) -> None:
    place = run_folder.folder(tmp_path, BASE, 1)
    run_folder.write_failure(place, BASE, 1, "Diverged", "the loss is nan")
    assert json.loads((place / "failed.json").read_text())["reason"] == "the loss is nan"
    assert not run_folder.is_finished(place, BASE, 1)
    run_folder.write(place, outcome, 1)
    assert run_folder.is_finished(place, BASE, 1)
    assert not (place / "failed.json").exists()


def test_published_records_carry_both_measures(outcome: experiment.Outcome) -> None:
    published = replace(outcome, setting=replace(BASE, faults=faults.PUBLISHED))
    lines = list(run_folder.records(published))
    assert lines[0]["baseline_effective_rank"] == outcome.published_before.effective_rank
    assert lines[0]["baseline_primary_effective_rank"] == outcome.before.effective_rank
    assert lines[-1]["step"] == 9
    own = list(run_folder.records(outcome))
    assert own[0]["baseline_effective_rank"] == outcome.before.effective_rank
    assert own[0]["baseline_published_effective_rank"] == outcome.published_before.effective_rank
