"""How flat the catalysts of a campaign are, as a table and as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.prion.experiment import Outcome

MEASURES = {
    "rho": "rho",
    "rho_fresh": "rho, other passages",
    "curvature": "curvature",
}
"""Facts of a near-null catalyst, see `chimera_lib.prion.catalysts.near_null.eigen_prion`, to a table's columns."""


def catalysts(outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, float]]]:
    """The facts of each near-null catalyst that was shown, by model; one a seed, however many runs it was shown in."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for one in outcomes:
        if one.setting.treatment == "eigen_prion" and all(name in one.facts for name in MEASURES):
            found.setdefault(one.setting.model, {})[one.setting.seed] = {name: one.facts[name] for name in MEASURES}
    return {model: list(by_seed.values()) for model, by_seed in found.items()}


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row a model: the means over its catalysts, and the largest rho among them."""
    return [
        {"model": model, "catalysts": len(facts)}
        | {column: sum(one[name] for one in facts) / len(facts) for name, column in MEASURES.items()}
        | {"largest rho": max(one["rho"] for one in facts)}
        for model, facts in catalysts(outcomes).items()
    ]


def metrics(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Each mean as `record` takes it, with n and Student's 95 % interval; the model's name first if there are more."""
    found: dict[str, dict[str, Any]] = {}
    by_model = catalysts(outcomes)
    for model, facts in by_model.items():
        start = f"{model}_".replace("-", "_").replace(".", "_") if len(by_model) > 1 else ""
        for name in MEASURES:
            values = [one[name] for one in facts]
            interval = {"ci": tuple(stats.student(values))} if len(values) > 1 else {}
            found[f"{start}catalyst_{name}"] = {"value": sum(values) / len(values), "n": len(values)} | interval
    return found
