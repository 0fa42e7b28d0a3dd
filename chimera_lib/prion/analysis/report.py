"""A summary as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RANK_REDUCTION

if TYPE_CHECKING:
    from chimera_lib.prion.analysis.summary import Summary


MANY = 3  # pairs that are all shown


def as_text(summary: Summary) -> str:
    """Say the groups, the verdicts, what is confounded, and which runs failed."""
    what = summary.priority
    lines = [f"Priority {what.number}. The claim: {what.claim}.", ""]
    lines.append(f"{what.factor:<16}{'n':>3}  {'rank reduction, %':<26}{'|.|':>6}  log-perplexity change, nats")
    for one in summary.described:
        rank, logs = one[RANK_REDUCTION], one[LOG_PERPLEXITY]
        size = "" if rank["mean_absolute"] is None else f"{rank['mean_absolute']:.2f}"
        lines.append(f"{one['group']:<16}{rank['n']:>3}  {_mean(rank):<26}{size:>6}  {_mean(logs)}")
    lines += ["(mean [95 % interval, Student]; |.|: mean of magnitudes, as published)", ""]
    for families in summary.verdicts.values():
        seeded = any(run.seed is not None for runs in summary.groups.values() for run in runs)
        for name in ("changes", "differences", "paired", "scaling"):
            # Of many pairs those that the source makes a claim of; pairs by seed where the files tell the seeds.
            many = name == "paired" or (name == "differences" and len(families[name]) > MANY)
            shown = [one for one in families[name] if one.claim or not many] if name != "paired" or seeded else []
            lines += [one.text for one in shown]
    for test in summary.welch:
        found = f"none ({test['error']})" if test["error"] else f"F = {test['statistic']:.2f}, p = {test['p']:.3g}"
        without = f" (without {', '.join(test['left_out'])}: no spread)" if test["left_out"] else ""
        lines.append(f"Welch ANOVA, {test['metric']}: {found}{without}")
    if summary.filtered is not None:
        lines += ["", *_filtered(summary.filtered)]
    lines += [""] * bool(summary.warnings) + [f"warning: {one}" for one in summary.warnings]
    lines += [f"failed: {one['group']} run {one['run']}: {one['reason']}" for one in summary.failed]
    lines += [f"note: {one}" for one in summary.notes]
    return "\n".join(lines)


def _mean(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "none"
    if found["interval"] is None:
        return f"{found['mean']:+.2f}"
    low, high = found["interval"]
    return f"{found['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _filtered(filtered: dict[str, Any]) -> list[str]:
    lines = [f"filter {filtered['method']} on {filtered['metric']}: {filtered['num_filtered']} left out"]
    lines += [f"  {filtered['note']}"] if filtered["note"] else []
    for one in filtered["changed_answers"]:
        lines.append(f"  {one['name']}: {one['all_runs']} on all runs, {one['filtered']} on those kept")
    return lines
