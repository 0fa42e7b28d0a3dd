"""Comparisons of runs: pairs by seed, equal distance, what a record holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimera_lib.prion import comparison
from tests.prion.outcomes import outcome

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Outcome

DAMAGES = {"eigen_prion": (0.5, 0.6, 0.55), "text_fixed": (1.0, 1.3, 1.1), "random_text": (0.2, 0.25, 0.21)}


def runs(**more: float) -> dict[str, list[Outcome]]:
    return {
        name: [outcome(damage=one, treatment=name, seed=seed, **more) for seed, one in enumerate(damages)]
        for name, damages in DAMAGES.items()
    }


def test_pairs_are_of_one_seed_whatever_the_order() -> None:
    found = runs()
    verdict = comparison.against(
        found["eigen_prion"], found["text_fixed"][::-1], "log_perplexity_change", name="x", claim="greater"
    )
    assert verdict.effect == pytest.approx(sum(a - b for a, b in zip(*list(DAMAGES.values())[:2], strict=True)) / 3)
    assert verdict.paired
    assert verdict.n == (3, 3)
    assert verdict.answer == "does not hold"


def test_controls_that_hardly_moved_are_not_called_equivalent() -> None:
    damages = (0.01, -0.02, 0.03, 0.0, 0.01)
    treated = [outcome(damage=one, moved=10.0, seed=seed) for seed, one in enumerate(damages)]
    for moved, relation in ((9.0, "equivalent"), (0.5, "cannot tell")):
        still = [outcome(damage=one, moved=moved, seed=seed) for seed, one in enumerate(damages[::-1])]
        for pair in ((treated, still), (still, treated)):
            verdict = comparison.against(*pair, "log_perplexity_change", name="x", claim="greater")
            assert verdict.relation == relation
            assert verdict.moved == pytest.approx(moved / 10)


def test_margins_are_those_of_the_analysis() -> None:
    assert comparison.MARGINS == {"log_perplexity_change": 0.1, "rank_reduction": 1.0}


def test_at_equal_distance_a_run_is_read_where_the_other_ended() -> None:
    far = [outcome(damage=1.0 + seed / 10, moved=20, treatment="eigen_prion", seed=seed) for seed in range(3)]
    near = [outcome(damage=0.3, moved=10 + seed, treatment="text_fixed", seed=seed) for seed in range(3)]
    verdict = comparison.against_at_equal(far, near, "log_perplexity_change", at="weight_change", name="x")
    expected = [(1.0 + seed / 10) * (10 + seed) / 20 - 0.3 for seed in range(3)]
    assert verdict.effect == pytest.approx(sum(expected) / 3)


def test_controls_that_do_not_repeat_are_not_compared_at_equal_loss() -> None:
    found = comparison.against_controls(runs(), {"text_fixed": "passage", "random_text": "passages"})
    assert [one.name for one in found["one rate"]] == ["passage", "passages"]
    assert [one.name for one in found["equal loss"]] == ["passage"]
    assert all(one.p_holm is not None for one in found["one rate"])


def test_a_record_has_means_intervals_and_distances() -> None:
    everything = [one for members in runs().values() for one in members]
    metrics = comparison.metrics(everything)
    mean = sum(DAMAGES["text_fixed"]) / 3
    assert metrics["text_fixed_log_perplexity_change"]["value"] == pytest.approx(mean)
    assert metrics["text_fixed_log_perplexity_change"]["n"] == 3
    low, high = metrics["text_fixed_log_perplexity_change"]["ci"]
    assert low < mean < high
    assert metrics["eigen_prion_rho"]["value"] == pytest.approx(0.05)
    assert metrics["eigen_prion_less_random_text_log_perplexity_change"]["value"] > 0
    assert metrics["perplexity_before"] == pytest.approx(2.718281828**3, rel=1e-6)


def test_factors_that_differ_are_in_the_names() -> None:
    both = [outcome(model=model, treatment="eigen_prion") for model in ("neox-0.3m", "neox-1m")]
    assert "neox_0_3m_eigen_prion_log_perplexity_change" in comparison.metrics(both)
    assert any(line.startswith("model neox-1m") for line in comparison.lines(both))
