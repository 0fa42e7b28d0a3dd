"""What a filter of outliers would have changed: how many runs it leaves out, and which answers then differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.prion.analysis import as_published, describe, filters, judged
from chimera_lib.prion.analysis.runs import RANK_REDUCTION, RunResult, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimera_lib.prion.analysis.filters import Filter
    from chimera_lib.prion.analysis.judged import Margins
    from chimera_lib.prion.analysis.verdicts import Verdict

    Groups = Mapping[str, Sequence[RunResult]]
    Families = Mapping[str, Mapping[str, Sequence[Verdict]]]


def analyse(
    priority: int, groups: Groups, chosen: Filter, margins: Margins, unfiltered: Families, *, absolute: bool
) -> dict[str, Any]:
    """Filter each group by itself and summarise what is left.

    Args:
        priority: 1 to 4.
        groups: the runs by group.
        chosen: the filter; by rank reduction it looks at magnitudes where the means are of those.
        margins: of equivalence.
        unfiltered: the verdicts on all runs, by metric and family.
        absolute: means of magnitudes, in the summary.

    Returns:
        The filter and its note, what it left out of each group, the summary of the rest in the published columns, the
        signed description of its rank reduction, and every verdict whose answer differs.
    """
    rest: dict[str, list[RunResult]] = {}
    removed: dict[str, Any] = {}
    for name, runs in groups.items():
        rest[name], removed[name] = _part(counted(runs), chosen, absolute=absolute)
    total = sum(len(one["removed"]) for one in removed.values())
    changed = []
    for metric, families in unfiltered.items():
        for family, verdicts in judged.judge(priority, rest, metric, margins).items():
            changed += _changed(families.get(family, ()), verdicts)
    return {
        **chosen._asdict(),
        "num_filtered": total,
        "note": filters.note(chosen, [len(counted(runs)) for runs in groups.values()]),
        "groups": removed,
        "summary": [as_published.row(priority, name, runs, absolute=absolute) for name, runs in rest.items()],
        "signed": {
            name: describe.numbers([v for run in runs if (v := run.metric(RANK_REDUCTION)) is not None])
            for name, runs in rest.items()
        },
        "changed_answers": changed,
    }


def _part(runs: Sequence[RunResult], chosen: Filter, *, absolute: bool) -> tuple[list[RunResult], dict[str, Any]]:
    """The runs that a filter keeps, those without the metric among them, and what it left out."""
    metric = filters.METRICS[chosen.metric]
    judged_runs = [run for run in runs if run.metric(metric) is not None]
    numbers = [run.metric(metric) or 0.0 for run in judged_runs]
    if absolute and metric == RANK_REDUCTION:
        numbers = [abs(one) for one in numbers]
    keep = filters.kept(numbers, chosen)
    lost = [(run, one) for run, one, stays in zip(judged_runs, numbers, keep, strict=True) if not stays]
    gone = {id(run) for run, _ in lost}
    facts = {
        "num_runs": len(runs) - len(lost),
        "removed": [{"run": run.run, "value": value} for run, value in lost],
        "not_judged": len(runs) - len(judged_runs),
    }
    return [run for run in runs if id(run) not in gone], facts


def _changed(before: Sequence[Verdict], after: Sequence[Verdict]) -> list[dict[str, str]]:
    answers = {one.name: one.answer for one in before}
    return [
        {"name": one.name, "all_runs": answers[one.name], "filtered": one.answer}
        for one in after
        if one.name in answers and answers[one.name] != one.answer
    ]
