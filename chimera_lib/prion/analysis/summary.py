"""The summary of a priority: the published columns, the signed means beside them, tests, verdicts and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import as_published, confounds, describe, judged, sensitivity
from chimera_lib.prion.analysis.groups import PRIORITIES, Priority
from chimera_lib.prion.analysis.judged import Margins
from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RANK_REDUCTION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chimera_lib.prion.analysis.filters import Filter
    from chimera_lib.prion.analysis.groups import Groups
    from chimera_lib.prion.analysis.verdicts import Verdict

MARKS = {
    "***": "p < 0.001 (highly significant)",
    "**": "p < 0.01 (very significant)",
    "*": "p < 0.05 (significant)",
    "ns": "p >= 0.05 (not significant)",
}
_METRICS = (RANK_REDUCTION, LOG_PERPLEXITY)


@dataclass(frozen=True)
class Summary:
    """All that is said of a priority.

    Attributes:
        priority: which.
        groups: its runs by group, failed ones among them.
        absolute: the published columns hold means of magnitudes.
        published: a row a group, in the published columns.
        described: a group each, signed: see `describe.group`.
        tests: as published.
        verdicts: by metric (``rank_reduction_pct``, ``log_perplexity_change``) and family, see `judged.judge`.
        welch: Welch's analysis of variance of each metric; empty for two groups, and for the scaling law.
        filtered: the sensitivity analysis, see `sensitivity.analyse`; None where none was asked for.
        warnings: what is confounded, and what else a reader has to know.
        notes: what was odd in the folder, and left out.
    """

    priority: Priority
    groups: Groups
    absolute: bool
    published: list[dict[str, Any]]
    described: list[dict[str, Any]]
    tests: dict[str, Any]
    verdicts: dict[str, dict[str, list[Verdict]]]
    welch: list[dict[str, Any]] = field(default_factory=list)
    filtered: dict[str, Any] | None = None
    margins: Margins = field(default_factory=Margins)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The runs that do not count, and why."""
        return [
            {"group": name, "run": run.run, "folder": run.folder.name if run.folder else None, "reason": run.failed}
            for name, runs in self.groups.items()
            for run in runs
            if run.failed
        ]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of the CSV: the published columns, then ours."""
        return [row | _beside(facts, self.filtered) for row, facts in zip(self.published, self.described, strict=True)]

    @property
    def content(self) -> dict[str, Any]:
        """What goes into the JSON file."""
        how = "of magnitudes, as published" if self.absolute else "of signed values: positive where the rank fell"
        return {
            "summary": self.published,
            **self.tests,
            "signed": self.described,
            "verdicts": {
                metric: {family: [one.record for one in found] for family, found in families.items()}
                for metric, families in self.verdicts.items()
            },
            "welch_anova": self.welch,
            "failed_runs": self.failed,
            "warnings": self.warnings,
            "notes": self.notes,
            "sensitivity": self.filtered,
            "metadata": {
                "priority": self.priority.number,
                "claim": self.priority.claim,
                "absolute": self.absolute,
                "margins": self.margins._asdict(),
                "significance_markers": MARKS,
                "note": f"Means and ranges of the rank under 'summary' are {how}. Its tests pool the variances, of "
                "signed values, as published; 'verdicts' do not pool them, and are corrected by Holm.",
            },
        }


def summarise(
    groups: Groups,
    priority: int,
    *,
    absolute: bool = False,
    chosen_filter: Filter | None = None,
    margins: Margins | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """Summarise the groups of a priority.

    Args:
        groups: the runs by group, as `groups.split` gives them.
        priority: 1 to 4.
        absolute: means of magnitudes in the published columns; the signed ones stand beside them anyway.
        chosen_filter: what the sensitivity analysis leaves out; the primary numbers are of all runs.
        margins: what still counts as no effect; 1 percentage point of rank and 0.1 nats by default.
        notes: what the reader found odd.
    """
    margins = margins or Margins()
    verdicts = {metric: judged.judge(priority, groups, metric, margins) for metric in _METRICS}
    several = priority > 1 and len(groups) > 2
    filtered = None
    if chosen_filter is not None:
        filtered = sensitivity.analyse(priority, groups, chosen_filter, margins, verdicts, absolute=absolute)
    return Summary(
        priority=PRIORITIES[priority],
        groups=groups,
        absolute=absolute,
        published=[as_published.row(priority, name, runs, absolute=absolute) for name, runs in groups.items()],
        described=[describe.group(name, runs) for name, runs in groups.items()],
        tests=as_published.tests(priority, groups),
        verdicts=verdicts,
        welch=[judged.welch(groups, metric) for metric in _METRICS] if several else [],
        filtered=filtered,
        margins=margins,
        warnings=confounds.warnings(priority, groups),
        notes=list(notes),
    )


def write(summary: Summary, output: Path) -> list[Path]:
    """Write a summary's CSV, JSON and figure, each under another name first and renamed when whole.

    Args:
        summary: what to write.
        output: the folder; made where it is missing. Files of an earlier analysis there are replaced.

    Returns:
        The files: ``<stem>_summary.csv``, ``<stem>_summary.json``, ``<figure>.png``.

    Raises:
        ChimeraError: the folder cannot be written to.
    """
    from chimera_lib.prion.analysis import figures, files

    stem = summary.priority.stem
    try:
        return [
            files.write_csv(output / f"{stem}_summary.csv", summary.rows),
            files.write_json(output / f"{stem}_summary.json", summary.content),
            files.write_png(output / f"{summary.priority.figure}.png", figures.draw(summary)),
        ]
    except OSError as error:
        raise ChimeraError(f"cannot write to {output} ({error.strerror}): name another --output-dir") from error


def _beside(facts: dict[str, Any], filtered: dict[str, Any] | None) -> dict[str, Any]:
    """Our columns of a group, beside the published ones."""
    rank, logs = facts[RANK_REDUCTION], facts[LOG_PERPLEXITY]
    columns: dict[str, Any] = {"failed_runs": facts["failed_runs"]}
    for label, found in (("rank_reduction_pct", rank), ("log_perplexity_change", logs)):
        columns[f"signed_mean_{label}"] = found["mean"]
        for kind, ends in (("ci95", found["interval"]), ("bootstrap95", found["bootstrap"])):
            low, high = ends or (None, None)
            columns |= {f"{kind}_low_{label}": low, f"{kind}_high_{label}": high}
    columns["mean_absolute_rank_reduction_pct"] = rank["mean_absolute"]
    columns["mean_absolute_rank_reduction_pct_if_no_effect"] = rank["mean_absolute_if_no_effect"]
    columns["double_shifted"] = facts["double_shifted"]
    columns["learning_rate"] = "; ".join(f"{rate:g}" for rate in facts["learning_rates"])
    if filtered is not None:
        name = facts["group"]
        columns["filtered_num_runs"] = filtered["groups"][name]["num_runs"]
        columns["filtered_signed_mean_rank_reduction_pct"] = filtered["signed"][name]["mean"]
    return columns
