"""Size and what comes with it: the models' table, the confounds, damage where all runs have gone equally far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.prion import corpus, ladder, ladder_training, matching, models
from chimera_lib.prion.analysis import scaling
from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RunResult
from chimera_lib.prion.figures import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.prion.analysis.verdicts import Verdict
    from chimera_lib.prion.experiment import Outcome

SAMPLE = 160  # passages of the test plays


def models_table(names: Sequence[str], checkpoint: str) -> list[dict[str, Any]]:
    """A row a model: its parameters, what it has read, and its log-perplexity on the test plays with an interval.

    It is taken on passages spread evenly over the plays; `chimera prion ladder` takes it on all of them.

    Args:
        names: as `models.load` knows them.
        checkpoint: of models of the ladder.
    """
    rows = []
    for name in names:
        loaded = models.load(name, checkpoint=checkpoint)
        sample = corpus.passages(corpus.tokens("test", loaded.tokenizer), length=ladder_training.LENGTH, count=SAMPLE)
        losses = ladder_training.passage_losses(loaded.model, sample.flatten()).numpy()
        low, high = stats.bootstrap(losses, statistic="mean")
        read = ladder.card(name, checkpoint)["tokens"] if name in ladder.RUNGS else "?"
        rows.append(
            {
                "model": name,
                "parameters": loaded.parameters,
                "tokens read": read,
                "log-perplexity, test plays": float(losses.mean()),
                "low": low,
                "high": high,
                "passages": len(losses),
            }
        )
    return rows


def confounds(groups: Mapping[str, Sequence[Outcome]], sizes: Mapping[str, int]) -> Figure:
    """What else differs between sizes: relative change of the weights, final loss on what was shown, rank before.

    Args:
        groups: treatment to its runs on all models.
        sizes: model to its number of parameters.
    """
    import matplotlib.pyplot as plt

    panels: list[tuple[str, Callable[[Outcome], float]]] = [
        ("change of the weights\n(share of their norm)", lambda one: one.relative_change),
        ("last loss on what was shown\n(nats)", lambda one: one.losses[-1]),
        ("effective rank before", lambda one: one.before.effective_rank),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(7.4, 3.2))
    for axis, (label, read) in zip(axes, panels, strict=True):
        for treatment, runs in groups.items():
            _line(axis, runs, sizes, read, treatment)
        labels.over_size(axis, sizes.values())
        axis.set(ylabel=label)
    axes[1].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def shares(outcomes: Sequence[Outcome], *, points: int) -> list[float]:
    """Relative changes of the weights that all runs reached, evenly up to the largest, shape (points,)."""
    common = min(one.relative_change for one in outcomes) * 0.999
    return [common * (number + 1) / points for number in range(points)]


def at_share(groups: Mapping[str, Sequence[Outcome]], sizes: Mapping[str, int], share: float) -> Figure:
    """Damage by size where every run's weights had moved by one share of their norm."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4))
    for treatment, runs in groups.items():
        _line(left, runs, sizes, lambda one: _reading(one, share).log_perplexity_change, treatment)
        _line(right, runs, sizes, lambda one: _reading(one, share).rank_reduction, treatment)
    for axis, label in ((left, labels.DAMAGE), (right, labels.RANK)):
        axis.axhline(0, color="#000000", linewidth=1)
        labels.over_size(axis, sizes.values())
        axis.set(ylabel=label)
    figure.suptitle(f"weights moved by {share:.1%} of their norm", fontsize=10)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def slope(runs: Sequence[Outcome], share: float, *, measure: str = "log_perplexity_change") -> Verdict:
    """Slope per tenfold size of the damage where all runs had gone equally far, in nats (or per cent of the rank)."""
    groups: dict[str, list[RunResult]] = {}
    for number, one in enumerate(runs):
        value = getattr(_reading(one, share), measure)
        size = float(one.parameters)
        result = RunResult(one.setting.model, number, "", "", "", parameters=size, metrics={LOG_PERPLEXITY: value})
        groups.setdefault(one.setting.model, []).append(result)
    return scaling.slope(groups, LOG_PERPLEXITY)


def slopes(plain: Mapping[tuple[str, str], Verdict], matched: Mapping[str, Verdict]) -> list[dict[str, Any]]:
    """A row a slope, for a table: of what, with its interval and what it says of the claim that larger is worse.

    Args:
        plain: (treatment, metric) to its slope at one rate.
        matched: treatment to its slope at equal distance. Both as of `scaling.corrected`: without it there is no p.
    """
    said = {"log_perplexity_change": "log-perplexity (nats)", "rank_reduction_pct": "rank reduction (%)"}
    rows = [(labels.TREATMENTS[name], said[metric], "one rate", one) for (name, metric), one in plain.items()]
    loss = said["log_perplexity_change"]
    rows += [(labels.TREATMENTS[name], loss, "equal distance", one) for name, one in matched.items()]
    return [
        {
            "treatment": name,
            "measure": measure,
            "at": at,
            "slope": one.effect,
            "95 % interval": f"{one.interval.low:+.2f} to {one.interval.high:+.2f}" if one.interval else "none",
            "slope / SD": math.nan if one.g is None else one.g,
            "p (Holm)": math.nan if one.p_holm is None else one.p_holm,
            "larger is worse": one.answer,
        }
        for name, measure, at, one in rows
    ]


def _reading(outcome: Outcome, share: float) -> matching.Reading:
    return matching.at_weight_change(outcome, share * outcome.weight_change / outcome.relative_change)


def _line(
    axis: Axes, runs: Sequence[Outcome], sizes: Mapping[str, int], read: Callable[[Outcome], float], treatment: str
) -> None:
    across = [model for model in sizes if any(one.setting.model == model for one in runs)]
    values = [[read(one) for one in runs if one.setting.model == model] for model in across]
    means = np.array([np.mean(one) for one in values])
    ends = np.array([stats.student(one) if len(one) > 1 else (one[0], one[0]) for one in values])
    axis.errorbar(
        [sizes[model] for model in across], means, yerr=[means - ends[:, 0], ends[:, 1] - means], fmt="o-",
        color=labels.COLOUR[treatment], markersize=4, label=labels.TREATMENTS[treatment],
    )  # fmt: skip
