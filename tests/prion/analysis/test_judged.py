"""The verdicts of a priority, on runs whose movement is known."""

from __future__ import annotations

from chimera_lib.prion.analysis import judged, published
from chimera_lib.prion.analysis.runs import RANK_REDUCTION, RunResult

SMALL = (0.1, -0.2, 0.15, 0.0, -0.1)


def runs(optimizer: str, changes: tuple[float, ...], moved: float | None) -> list[RunResult]:
    more = {} if moved is None else {"final_weight_change": moved}
    return [
        RunResult("neox-1m", n, "fp32", "eigen_prion", optimizer, seed=n, metrics={RANK_REDUCTION: change, **more})
        for n, change in enumerate(changes, 1)
    ]


def immune(moved: float | None, changes: tuple[float, ...] = SMALL) -> str:
    groups = {"adamw": runs("adamw", (20.0, 22.0, 21.0, 19.0, 20.5), 10.0), "sgd": runs("sgd", changes, moved)}
    found = judged.judge(3, groups, RANK_REDUCTION, judged.Margins())["changes"]
    return next(one.answer for one in found if one.groups == ("sgd",))


def test_an_optimizer_is_immune_only_if_it_moved_the_weights() -> None:
    assert immune(8.0) == immune(1.0) == "holds"
    assert immune(0.9) == immune(0.0) == "cannot tell"
    assert immune(None) == "holds"  # nothing says how far
    assert immune(8.0, SMALL[:2]) == "cannot tell"


def test_pairs_whose_movement_differs_are_not_equivalent() -> None:
    for moved, relation in ((8.0, "equivalent"), (0.1, "cannot tell")):
        groups = {"adamw": runs("adamw", SMALL, 10.0), "sgd": runs("sgd", SMALL[::-1], moved)}
        families = judged.judge(3, groups, RANK_REDUCTION, judged.Margins())
        assert families["differences"][0].relation == families["paired"][0].relation == relation


def test_effects_as_large_as_the_smallest_published_one_are_no_equivalence() -> None:
    assert judged.Margins().rank == 1.0
    groups = {"adamw": runs("adamw", (20.0, 22.0, 21.0, 19.0, 20.5), 10.0), "sgd": runs("sgd", (3.0,) * 4 + (3.1,), 9)}
    changes = judged.judge(3, groups, RANK_REDUCTION, judged.Margins())["changes"]
    assert [one.answer for one in changes] == ["holds", "does not hold"]


def test_slopes_are_corrected_like_the_other_families() -> None:
    slopes = judged.judge(1, published.groups(1), RANK_REDUCTION, judged.Margins())["scaling"]
    assert all(one.p is not None and one.p_holm is not None and one.p_holm >= one.p for one in slopes)
    assert all(one.g is not None for one in slopes)
