"""Which runs are compared: one factor differs, the others are held, and what is asked for is there or named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import groups
from chimera_lib.prion.analysis.runs import RunResult


def run(model: str = "410m", number: int = 1, **settings: Any) -> RunResult:
    plain = {"precision": "fp16", "treatment": "eigen_prion", "optimizer": "adamw"}
    return RunResult(model, number, **(plain | settings), metrics={"rank_reduction_pct": 1.0})


def test_sizes_come_in_order_and_by_any_name() -> None:
    found = [run("1b", parameters=1e9), run("70m", parameters=7e7), run("neox-1m", parameters=1e6)]
    assert list(groups.split(found, 1)) == ["neox-1m", "70m", "1b"]
    assert list(groups.split(found, 1, levels=["1b", "pythia-70m"])) == ["1b", "70m"]


def test_groups_come_in_the_order_of_the_source() -> None:
    names = ["text_fixed", "random_text", "eigen_prion", "gaussian_noise", "other"]
    found = [run(treatment=name) for name in names]
    assert list(groups.split(found, 2)) == ["eigen_prion", "gaussian_noise", "random_text", "text_fixed", "other"]
    found = [run(precision=name, tuning="lora" if "bit" in name else "full") for name in ("4bit", "8bit", "fp16")]
    assert list(groups.split(found, 4)) == ["fp16", "8bit", "4bit"]


def test_lora_at_full_precision_is_a_group_of_its_own() -> None:
    found = [run(precision="fp32"), run(precision="fp32", tuning="lora"), run(precision="4bit", tuning="lora")]
    assert list(groups.split(found, 4)) == ["fp32", "fp32-lora", "4bit"]


def test_other_factors_are_held_and_what_is_left_out_is_said() -> None:
    found = [run(number=n) for n in (1, 2)] + [run(treatment="sham"), run(precision="4bit", tuning="lora")]
    found += [run(optimizer="sgd"), run(optimizer="sgd", treatment="sham")]
    notes: list[str] = []
    compared = groups.split(found, 3, notes=notes)
    assert {name: len(members) for name, members in compared.items()} == {"adamw": 2, "sgd": 1}
    assert notes == [
        "the runs of treatment eigen_prion are compared; left out: 2 of sham",
        "the runs of precision fp16 are compared; left out: 1 of 4bit",
    ]


def test_a_control_may_have_an_optimizer_of_its_own() -> None:
    found = [run(), run(optimizer="sgd"), run(treatment="random_text", optimizer="sgd")]
    compared = groups.split(found, 2)
    assert [one.optimizer for one in compared["eigen_prion"]] == ["adamw"]
    assert [one.optimizer for one in compared["random_text"]] == ["sgd"]


def test_the_reference_is_what_the_source_says_collapses() -> None:
    assert groups.reference({"sgd": [], "adamw": []}, 3) == "adamw"
    assert groups.reference({"4bit": [], "fp32": []}, 4) == "fp32"
    assert groups.reference({"70m": []}, 1) is None


def test_what_is_not_there_is_named_with_what_is() -> None:
    found = [run("70m", parameters=7e7), run("160m", parameters=16e7)]
    with pytest.raises(ChimeraError, match="--models 1b: no run of that model here; found 70m, 160m"):
        groups.split(found, 1, levels=["70m", "1b"])
    with pytest.raises(ChimeraError, match=r"several models here \(70m, 160m\): choose one with --model"):
        groups.split(found, 3)
    with pytest.raises(ChimeraError, match="--model 410m: no run of that model here; found 70m, 160m"):
        groups.split(found, 3, model="410m")
    with pytest.raises(ChimeraError, match="--optimizers sgd: no run of that optimizer here; found adamw"):
        groups.split(found, 3, model="70m", levels=["adamw", "sgd"])
    with pytest.raises(ChimeraError, match=r"none of the 2 runs counts \(the first: out of memory\)"):
        groups.split([replace(one, failed="out of memory") for one in found], 1)


@pytest.mark.parametrize("name", ["faults", "steps", "learning rate", "steps of the catalyst"])
def test_runs_of_several_settings_are_not_averaged(name: str) -> None:
    found = [run(number=n, held={name: 5 if n == 2 else 10}) for n in (1, 2, 3)]
    with pytest.raises(
        ChimeraError, match=rf"the runs of adamw differ in {name} \(10 in run 1 3, 5 in run 2\): analyse"
    ):
        groups.split(found, 3)
    groups.split([replace(one, failed="x" if one.run == 2 else "") for one in found], 3)  # that one is not averaged


def test_one_draw_does_not_count_twice() -> None:
    found = [run(number=n, seed=43) for n in (1, 2)]
    with pytest.raises(ChimeraError, match="runs 1 and 2 of adamw have one seed, 43"):
        groups.split(found, 3)
    assert groups.split([replace(one, published=True) for one in found], 3)  # the source does not tell its seeds


def test_what_differs_from_group_to_group_is_said() -> None:
    found = [run(held={"steps": 5}), run(treatment="sham", held={"steps": 10, "learning rate": 0.0})]
    notes: list[str] = []
    groups.split(found, 2, notes=notes)
    assert notes == [
        "steps differs between the groups (5 in eigen_prion; 10 in sham): its effect cannot be told from theirs"
    ]
