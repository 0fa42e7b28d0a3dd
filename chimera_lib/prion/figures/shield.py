"""Precision and tuning apart: which step between two shields changes one thing, and what it is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chimera_lib.plotting import COLOURS
from chimera_lib.prion import comparison, gradient_agreement
from chimera_lib.prion.figures import labels, trails
from chimera_lib.prion.figures.damage import mean_and_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from chimera_lib.prion.analysis.verdicts import Verdict
    from chimera_lib.prion.experiment import Outcome

LEVELS = (("fp32", "full"), ("fp32", "lora"), ("8bit", "lora"), ("4bit", "lora"))
SHORT = {"eigen_prion": "catalyst", "text_fixed": "passage"}
Groups = dict[str, dict[str, list["Outcome"]]]


class Change(NamedTuple):
    """From one level to another with one thing changed.

    Attributes:
        without, shield: the two levels, keys of `labels.PRECISIONS`.
        what: what changed.
        key: for metrics.
    """

    without: str
    shield: str
    what: str
    key: str


CHANGES = (
    Change("fp32", "fp32-lora", "adapters instead of all weights", "adapters"),
    Change("fp32-lora", "8bit-lora", "8 bits instead of 32", "8bit"),
    Change("fp32-lora", "4bit-lora", "NF4 instead of 32 bits", "4bit"),
)


def gradients(model: str) -> list[dict[str, Any]]:
    """A row a precision and state: how far gradients of adapters are from those of the dequantised reference."""
    rows = []
    for precision in ("8bit", "4bit"):
        found = gradient_agreement.gradient_agreement(model, precision)
        for when, errors in (("as loaded", found.before), ("after a forward pass without gradients", found.after)):
            row = {"weights": precision, "when": when, "parameters compared": len(errors)}
            rows.append({**row, "worst relative error": max(errors.values())})
    return rows


def by_level(outcomes: Sequence[Outcome]) -> Groups:
    """Runs by level (a key of `labels.PRECISIONS`) and treatment, in the order of `LEVELS` and of seeds."""
    groups: Groups = {}
    for precision, tuning in LEVELS:
        level = precision if tuning == "full" else f"{precision}-lora"
        for one in sorted(outcomes, key=lambda one: one.setting.seed):
            if (one.setting.precision, one.setting.tuning) == (precision, tuning):
                groups.setdefault(level, {}).setdefault(one.setting.treatment, []).append(one)
    return groups


def steps(groups: Mapping[str, Any]) -> list[Change]:
    """Those of `CHANGES` both of whose levels were run."""
    return [change for change in CHANGES if change.without in groups and change.shield in groups]


def compare(groups: Groups, treatment: str, change: Change, kind: str) -> Verdict:
    """Damage without less damage with a shield; ``kind`` is ``one rate`` or ``equal distance``."""
    pair = groups[change.without][treatment], groups[change.shield][treatment]
    name = f"{SHORT[treatment]}: {change.what}"
    if kind == "one rate":
        return comparison.against(*pair, "log_perplexity_change", name=name, claim="greater")
    return comparison.against_at_equal(*pair, "log_perplexity_change", at="weight_change", name=name, claim="greater")


def judged(found: Mapping[str, Sequence[Verdict]]) -> list[dict[str, Any]]:
    """A row a verdict, for a table; the claim is that the shield protects."""
    rows = trails.judged(found)
    return [
        {"shield": row.pop("control")} | {("it protects" if key == "claim" else key): row[key] for key in row}
        for row in rows
    ]


def after(groups: Groups, step: int) -> Figure:
    """Damage of the catalyst under each shield after a number of steps."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7.2, 2.4))
    axis.axvline(0, color="#000000", linewidth=1)
    most = 0.1
    for place, by_treatment in enumerate(groups.values()):
        runs = by_treatment["eigen_prion"]
        mean_and_interval(axis, [trails.change(one, step) for one in runs], place, COLOURS[place])
        most = max(most, *(trails.change(one, max(one.trail)) for one in runs))
    axis.set_yticks(range(len(groups)), [labels.PRECISIONS[level] for level in groups])
    axis.set_ylim(len(groups) - 0.5, -0.5)
    axis.set(xlim=(-0.08 * most, 1.1 * most), xlabel=labels.DAMAGE, title=f"after {step} steps")
    return figure
