"""The cascade of faults: which runs it needs, and what it makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chimera_lib.prion import cascade, faults, priorities
from chimera_lib.prion.experiment import Setting
from tests.prion.outcomes import outcome

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Outcome

TREATED = Setting(treatment="eigen_prion", faults=faults.PUBLISHED)
CONTROL = Setting(treatment="gaussian_noise", faults=faults.PUBLISHED)


def test_runs_that_come_to_the_same_are_one() -> None:
    without_search = replace(TREATED, faults=faults.PUBLISHED.without("sharp_end"))
    assert cascade.effective(TREATED) == cascade.effective(without_search)  # the catalyst never looks at it
    for name in (*cascade.ONLY_CONTROLS, *cascade.REPORTING, "rate_by_size"):
        assert cascade.effective(replace(TREATED, faults=faults.PUBLISHED.without(name))) == cascade.effective(TREATED)
    for name in ("unused_directions", "early_stop", "adafactor"):
        assert cascade.effective(replace(CONTROL, faults=faults.PUBLISHED.without(name))) == cascade.effective(CONTROL)


@pytest.mark.parametrize("name", ["double_shift", "adafactor", "early_stop", "unused_directions"])
def test_what_acts_on_the_catalyst_makes_another_run(name: str) -> None:
    assert cascade.effective(replace(TREATED, faults=faults.PUBLISHED.without(name))) != cascade.effective(TREATED)


@pytest.mark.parametrize("name", ["double_shift", "plain_controls", "fresh_controls", "unmatched_noise"])
def test_what_acts_on_the_control_makes_another_run(name: str) -> None:
    assert cascade.effective(replace(CONTROL, faults=faults.PUBLISHED.without(name))) != cascade.effective(CONTROL)


def test_a_control_with_the_treatment_s_optimizer_has_its_fault_too() -> None:
    mended = replace(CONTROL, faults=faults.PUBLISHED.without("plain_controls"))
    assert cascade.effective(mended).method == mended.method == "adafactor"


@pytest.mark.parametrize("one", [TREATED, CONTROL])
@pytest.mark.parametrize("step", faults.cascade())
def test_the_optimizer_of_the_effective_run_is_that_of_the_run(one: Setting, step: tuple[str, faults.Faults]) -> None:
    setting = replace(one, faults=step[1])
    assert cascade.effective(setting).method == setting.method


def test_a_cascade_reports_what_each_version_would_report() -> None:
    base = Setting(model="neox-0.3m", steps=2)
    versions = [("as published", faults.PUBLISHED), ("absolute", faults.PUBLISHED.without("absolute"))]
    found = cascade.run(base, versions, (1, 2), progress=False)
    assert [step.name for step in found] == ["as published", "absolute"]
    assert found[0].damage == found[1].damage  # the same runs
    assert found[0].headline != found[1].headline
    named = cascade.metrics(found)
    assert named["as_published_headline"]["n"] == 2
    assert named["absolute_damage"]["value"] == pytest.approx(sum(found[1].damage) / 2)

    assert [step.acts_on for step in found] == ["runs", "report"]


def test_faults_that_cannot_act_are_known_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(settings: list[Setting], **_: object) -> tuple[list[Outcome], list[object]]:
        return [replace(outcome(), setting=one) for one in settings], []

    monkeypatch.setattr(cascade.campaign, "run", ran)
    for model, idle in (("neox-0.3m", True), ("pythia-1b", False)):
        found = {step.name: step.acts_on for step in cascade.run(Setting(model=model), faults.cascade(), (1, 2))}
        nothing = {"one_text_seed", "sharp_end"} | ({"rate_by_size"} if idle else set())
        assert {name for name, acts in found.items() if acts == "nothing"} == nothing
        assert {name for name, acts in found.items() if acts == "report"} == {"five_sentences", "absolute"}


def test_the_rate_of_large_models_makes_another_run() -> None:
    for learning_rate, same in ((None, False), (1e-3, True)):
        large = replace(TREATED, model="1b", learning_rate=learning_rate)
        mended = replace(large, faults=faults.PUBLISHED.without("rate_by_size"))
        assert (cascade.effective(large) == cascade.effective(mended)) is same
        assert cascade.effective(large).rate == large.rate


# --- the four priorities -----------------------------------------------------------------------------------------


def test_the_published_conditions_are_the_source_s() -> None:
    def count(priority: int) -> int:
        return len(priorities.conditions(priority, "as_published"))

    assert [count(one) for one in (1, 2, 3, 4)] == [4, 3, 2, 3]
    assert [one.model for one in priorities.conditions(1, "as_published")] == ["70m", "160m", "410m", "1b"]
    assert [one.optimizer for one in priorities.conditions(3, "as_published")] == ["adamw", "sgd"]
    assert [one.quantization for one in priorities.conditions(4, "as_published")] == ["none", "8bit", "4bit"]


def test_the_corrected_conditions_add_what_is_missing() -> None:
    shown = {one.control_type for one in priorities.conditions(2, "corrected")}
    assert {"text_fixed", "random_fixed", "random_tokens", "sham"} <= shown
    levels = {(one.quantization, one.tuning) for one in priorities.conditions(4, "corrected")}
    assert ("none", "--lora") in levels
    adapted = next(one for one in priorities.conditions(4, "corrected") if one.tuning == "--lora")
    assert adapted.setting(faults.CORRECTED).tuning == "lora"
    assert priorities.Condition("70m", "4bit", "").setting(faults.CORRECTED).tuning == "lora"
