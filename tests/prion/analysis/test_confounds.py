"""Warnings: each where it is due, and none where nothing is confounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chimera_lib.prion.analysis import confounds, published
from chimera_lib.prion.analysis.runs import RunResult


def runs(treatment: str = "eigen_prion", changes: tuple[float, ...] = (1.0, 2.0), **settings: Any) -> list[RunResult]:
    """Runs of ours with nothing wrong about them, but for what is asked for."""
    more = {"baseline_log_perplexity": settings.pop("start", 4.0), "final_weight_change": settings.pop("moved", 1.0)}
    more |= settings.pop("metrics", {})
    plain = {"precision": "fp32", "optimizer": "adamw", "learning_rate": 1e-3, "repeats": True, "method": "adamw"}
    return [
        RunResult(
            "neox-1m", n, treatment=treatment, metrics={"rank_reduction_pct": change, **more}, **(plain | settings)
        )
        for n, change in enumerate(changes, 1)
    ]


def test_nothing_is_said_where_nothing_differs() -> None:
    for priority in (1, 2, 3, 4):
        assert confounds.warnings(priority, {"a": runs(), "b": runs("text_fixed", (3.0, 4.0))}) == []


def test_learning_rates() -> None:
    found = confounds.warnings(1, {"a": runs(), "b": runs(), "c": runs(learning_rate=2e-3)})
    said = "learning rate differs between the groups (0.001 in a, b; 0.002 in c)"
    assert found == [f"{said}: its effect cannot be told from theirs"]
    mixed = runs() + runs(learning_rate=2e-3)
    assert confounds.warnings(1, {"a": mixed, "b": mixed}) == [
        "runs of one group differ in learning rate (0.001, 0.002)"
    ]
    assert confounds.warnings(2, {"a": runs(), "sham": runs("sham", learning_rate=0.0)}) == []


def test_the_loss_that_sizes_start_from() -> None:
    (found,) = confounds.warnings(1, {"a": runs(start=4.0), "b": runs(start=4.3)})
    assert (
        found == "the models start from different log-perplexities (a 4.00, b 4.30 nats): size is confounded with loss"
    )
    assert confounds.warnings(1, {"a": runs(start=4.0), "b": runs(start=4.05)}) == []


def test_optimizer_and_repetition_of_controls() -> None:
    found = confounds.warnings(
        2, {"eigen_prion": runs(), "random_text": runs("random_text", optimizer="sgd", repeats=False)}
    )
    assert [one.split(" differs")[0] for one in found] == ["optimizer", "repetition"]
    assert "one sequence at every step in eigen_prion, a fresh one in random_text" in found[1]
    assert confounds.warnings(3, {"adamw": runs(), "sgd": runs(optimizer="sgd")}) == []


def test_how_far_optimizers_move_the_weights() -> None:
    (found,) = confounds.warnings(3, {"adamw": runs(moved=10.0), "sgd": runs(moved=0.1)})
    assert "adamw 10, sgd 0.1" in found and "before saying immune" in found
    still = [replace(one, metrics={"rank_reduction_pct": 1.0 + one.run}) for one in runs()]
    (found,) = confounds.warnings(3, {"adamw": runs(), "sgd": still})
    assert "not recorded" in found
    assert "different lengths" in confounds.warnings(3, {"adamw": runs(moved=10.0), "sgd": runs(moved=0.1)})[0]


def test_movement_is_named_after_what_was_measured() -> None:
    def relative(share: float, **more: float) -> list[RunResult]:
        return [
            replace(one, metrics={"rank_reduction_pct": 1.0 + one.run, "final_relative_weight_change": share, **more})
            for one in runs()
        ]

    (found,) = confounds.warnings(3, {"adamw": relative(0.2), "sgd": relative(0.001)})
    assert "by different shares of their norm (adamw 0.2, sgd 0.001)" in found
    both = {"adamw": relative(0.2, final_weight_change=9.0), "sgd": relative(0.001, final_weight_change=8.0)}
    assert confounds.warnings(3, both) == []  # lengths, where both have them


def test_tuning_of_quantised_models() -> None:
    (found,) = confounds.warnings(4, {"fp32": runs(), "4bit": runs(tuning="lora")})
    assert found.startswith("tuning differs between the groups (full fine-tuning in fp32; LoRA in 4bit)")


def test_what_is_known_of_the_published_runs() -> None:
    found = confounds.warnings(4, published.groups(4))
    assert any("shifted twice" in one for one in found) and any("is Adafactor" in one for one in found)


def test_a_seed_that_does_nothing_and_perplexities_past_all_bounds() -> None:
    same = runs(changes=(1.5, 1.5, 1.5))
    (found,) = confounds.warnings(2, {"a": runs(), "b": same})
    assert found == "the 3 runs of b gave one and the same value: their seed did nothing, n is 1"
    assert confounds.warnings(2, {"a": runs(), "sham": runs("sham", (0.0, 0.0), learning_rate=0.0)}) == []
    (found,) = confounds.warnings(2, {"a": runs(), "b": runs(metrics={"post_attack_perplexity": float("inf")})})
    assert found.startswith("2 of 2 runs of b have no finite perplexity")


def test_runs_that_stopped_early() -> None:
    short = runs(metrics={"final_iterations": 2.0})
    assert confounds.warnings(2, {"a": runs(metrics={"final_iterations": 11.0}), "b": short[:1]}) == [
        "1 of 3 runs took fewer steps than the others: they stopped early"
    ]


def test_failed_runs_confound_nothing() -> None:
    failed = [replace(one, failed="x") for one in runs(learning_rate=9.0)]
    assert confounds.warnings(1, {"a": runs() + failed, "b": failed}) == []
