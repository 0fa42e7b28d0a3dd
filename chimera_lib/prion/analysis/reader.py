"""Result folders, the original project's as they are and ours: every run with what was measured of it.

Such a folder holds run folders and, one a series, tables ``aggregate_summary_<series>.csv``. The rank of an original
run is taken from the table where one lists it, as the published summaries were made from these rounded numbers; that of
ours, of a run that no table lists, and of one whose table disagrees by more than rounding, from the run's own records.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import naming, places, run_folder
from chimera_lib.prion.analysis.run_folder import number
from chimera_lib.prion.analysis.runs import RANK_BASE, RANK_POST, RANK_REDUCTION, RunResult

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from chimera_lib.prion.analysis.naming import Name
    from chimera_lib.prion.analysis.run_folder import Content

ROUNDING = 0.05  # percentage points that four decimals of a rank and two of its change can make together
_COUNTS = ("parameters", "num_parameters", "n_parameters")
# What is held within a group, by the names that configs have for it, ours first.
HELD = (
    ("faults", ("faults",)),
    ("steps", ("steps", "num_steps")),
    ("learning rate", ("learning_rate",)),
    ("tokens of the catalyst", ("length", "catalyst_length")),
    ("steps of the catalyst", ("catalyst_steps",)),
    ("checkpoint", ("checkpoint",)),
)
_Row = dict[str, float]


def read(
    folder: Path | str,
    *,
    priority: int | None = None,
    only: Collection[str] | None = None,
    notes: list[str] | None = None,
) -> list[RunResult]:
    """Read every run of a result folder, failed ones included, sorted by their names.

    Args:
        folder: a folder of runs; the folder of a priority, whose runs lie in its ``raw_data``; one that holds the
            folder of the priority asked for; or that of a sweep, of whose cells those are read that its summary names.
        priority: 1 to 4, where `folder` may hold several.
        only: names of the run folders to read; None reads all of them, and the runs that tables alone list.
        notes: what was odd there is appended to it, a sentence each.

    Raises:
        ChimeraError: no such folder, one without runs, or one with a run twice, of two settings; the message says what
            is there.
    """
    notes = [] if notes is None else notes
    found: dict[tuple[Any, ...], RunResult] = {}
    passed = 0
    for place in places.cells(places.locate(Path(folder), priority), notes):
        tables = _tables(place, notes)
        listed: set[tuple[Name, int]] = set()
        for path in places.run_folders(place):
            if only is not None and path.name not in only:
                passed += 1
                continue
            name = naming.parse(path.name)
            number_of = name.run or 1
            listed.add((name.series, number_of))
            content = run_folder.load(path)
            notes.extend(content.notes)
            row = tables.get(name.series, {}).get(number_of)
            _keep(found, _result(path.name, name, number_of, content, row, path, notes), notes)
        for series, rows in tables.items() if only is None else ():
            for number_of, row in rows.items():
                if (series, number_of) not in listed:
                    _keep(found, _from_row(series, number_of, row, "published" in row), notes)
    if passed:
        notes.append(f"{passed} run{'s' * (passed > 1)} of other calls in the same folder left out")
    return sorted(found.values(), key=lambda run: (run.parameters or 0, run.key))


def _tables(place: Path, notes: list[str]) -> dict[Name, dict[int, _Row]]:
    """The aggregate tables of a folder: numbers by column, by run, by series."""
    tables: dict[Name, dict[int, _Row]] = {}
    for path in sorted(place.glob(f"{naming.AGGREGATE}*.csv")):
        name = path.stem.removeprefix(naming.AGGREGATE)
        if "healing" in name:
            continue
        rows: dict[int, _Row] = {}
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for line in csv.DictReader(line for line in lines if line.strip()):
            # Lines of means and deviations, which some tables end with, have no number of a run.
            run = number((line.get("run") or "").removeprefix("run"))
            cells = {key.strip(): number(value) for key, value in line.items() if isinstance(key, str)}
            if run is None or run != int(run):
                continue
            rows[int(run)] = {key: value for key, value in cells.items() if value is not None and key != "run"}
            if naming.is_published(name) and not any("log_perplexity" in key for key in cells):
                rows[int(run)]["published"] = 1.0
        if not rows:
            notes.append(f"{path.name} lists no run, left out")
        tables[naming.parse(name).series] = rows
    return tables


def _result(
    title: str, name: Name, number_of: int, content: Content, row: _Row | None, path: Path, notes: list[str]
) -> RunResult:
    facts, metrics = content.facts, dict(content.metrics)
    ours = any("log_perplexity" in key for key in metrics)
    known = "null_space_threshold" in facts or not facts
    published = naming.is_published(title) and known and not ours
    failed = content.failure
    if not failed and ours and not facts:
        failed = f"no {run_folder.CONFIG} that can be read: nothing says how it was made"
    if not failed and content.recorded and not content.finished:
        step = "" if content.last_step is None else f" (the last is of step {content.last_step:g})"
        failed = f"stopped: no post_attack record{step}"
    if not failed and not content.recorded and row is None:
        failed = f"no {run_folder.METRICS}"
    if not failed:
        failed = _ranks(metrics, row or {}, path.name, published, notes)
    return replace(_described(name, number_of, facts, published), metrics=metrics, failed=failed, folder=path)


def _from_row(series: Name, number_of: int, row: _Row, published: bool) -> RunResult:
    """A run that a table lists and that has no folder."""
    metrics: _Row = {}
    failed = _ranks(metrics, row, f"run {number_of}", published, [])
    return replace(_described(series, number_of, {}, published), metrics=metrics, failed=failed)


def _ranks(metrics: _Row, row: _Row, title: str, published: bool, notes: list[str]) -> str:
    """Complete a run's metrics by those of the table; say why its rank cannot be used, or nothing."""
    before, after = metrics.get("baseline_effective_rank"), metrics.get("post_attack_effective_rank")
    own, listed = None, row.get(RANK_REDUCTION)
    if before is not None and after is not None:
        if problem := run_folder.rank_problem(before, after):
            return problem
        own = 100 * (1 - after / before)
        if listed is not None and not abs(own - listed) <= ROUNDING:
            notes.append(f"{title}: a table has {listed:g} % of its rank lost, its records {own:.2f} %; these count")
            listed = None
        if listed is None or not published:
            metrics |= {RANK_BASE: before, RANK_POST: after, RANK_REDUCTION: own}
    for key, value in row.items():
        if key != "published":
            metrics.setdefault(key, value)
    if RANK_REDUCTION not in metrics:
        before, after = metrics.get(RANK_BASE), metrics.get(RANK_POST)
        if before is None or after is None or (problem := run_folder.rank_problem(before, after)):
            return run_folder.rank_problem(before, after)
        metrics[RANK_REDUCTION] = 100 * (1 - after / before)
    change = metrics[RANK_REDUCTION]
    return "" if math.isfinite(change) else f"{RANK_REDUCTION} is {change}"


def _described(name: Name, number_of: int, facts: Mapping[str, Any], published: bool) -> RunResult:
    """Who a run is, by its name first and by its config where the name is silent."""
    treatment = name.treatment or _text(facts, "treatment", "control_type") or naming.TREATMENT
    treatment = naming.TREATMENT if treatment == "none" else treatment
    bits = facts.get("quantization_bits") if facts.get("use_quantization") else None
    precision = name.precision or _text(facts, "precision", "quantization") or (f"{bits}bit" if bits else "")
    tuning = name.tuning or _text(facts, "tuning")
    if not tuning:
        tuning = "full" if facts.get("use_fft", precision not in ("8bit", "4bit")) else "lora"
    optimizer = (name.optimizer or _text(facts, "optimizer") or naming.OPTIMIZER).replace("-", "_")
    # The published code trains its controls with SGD, whatever optimizer the run was called with.
    if (published or _fault(facts, "plain_controls")) and not treatment.startswith(naming.TREATMENT):
        optimizer = "sgd"
    method = _text(facts, "method") or ("adafactor" if published and optimizer == "adamw" else optimizer)
    count = next((facts[key] for key in _COUNTS if isinstance(facts.get(key), (int, float))), None)
    seed = number(facts.get("seed"))
    return RunResult(
        model=naming.short((not published and _text(facts, "model")) or name.model),
        run=number_of,
        precision=precision,
        treatment=treatment,
        optimizer=optimizer,
        method=method.replace("-", "_"),
        tuning=tuning,
        parameters=naming.parameters(name.model) if published or count is None else float(count),
        learning_rate=number(facts.get("learning_rate")),
        seed=None if seed is None else int(seed),
        repeats=_repeats(treatment, fresh=published or _fault(facts, "fresh_controls")),
        published=published,
        # Ours shifts twice, where it does, in what it measures on the five sentences alone.
        double_shift=published or (_fault(facts, "double_shift") and _fault(facts, "five_sentences")),
        held=_held(facts),
    )


def _text(facts: Mapping[str, Any], *names: str) -> str:
    return next((facts[name] for name in names if isinstance(facts.get(name), str)), "")


def _held(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the runs of one group have to share, as far as a config says it."""
    known = {name: next((facts[key] for key in keys if facts.get(key) is not None), None) for name, keys in HELD}
    if isinstance(known["faults"], list):
        known["faults"] = ", ".join(map(str, known["faults"])) or "none"
    return {name: value for name, value in known.items() if isinstance(value, (str, int, float))}


def _fault(facts: Mapping[str, Any], name: str) -> bool:
    """Whether a config says that a fault of the published experiment was in."""
    return bool(facts.get(name)) or name in (facts.get("faults") or ())


def _repeats(treatment: str, *, fresh: bool) -> bool | None:
    """Whether a treatment shows one sequence at every step; that of Gaussian noise is a fault's affair."""
    if treatment == "gaussian_noise":
        return not fresh
    return {"text_fixed": True, "random_fixed": True, "random_tokens": False, "random_text": False, "sham": None}.get(
        treatment, True if treatment.startswith(naming.TREATMENT) else None
    )


def _keep(found: dict[tuple[Any, ...], RunResult], run: RunResult, notes: list[str]) -> None:
    """Add a run; of two that are the same, such as one whose name omits its treatment, the one that counts stays.

    Raises:
        ChimeraError: both count, and were not made alike.
    """
    other = found.get(run.key)
    if other is None or (other.failed and not run.failed):
        found[run.key] = run
    if other is None:
        return
    title = f"run {run.run} of {run.model}, {run.treatment} is there twice"
    if not run.failed and not other.failed and (said := _difference(other, run)):
        raise ChimeraError(
            f"{title}, {said} ({other.folder} and {run.folder}): name a folder with the runs of one setting"
        )
    dropped = other if found[run.key] is run else run
    notes.append(f"{title}: {'a table' if dropped.folder is None else dropped.folder.name} left out")


def _difference(one: RunResult, two: RunResult) -> str:
    """The first thing in which two runs differ that are held in a group, or their seed; empty where none does."""
    first, second = {**one.held, "seed": one.seed}, {**two.held, "seed": two.seed}
    for name in first:
        if name in second and None not in (first[name], second[name]) and first[name] != second[name]:
            return f"with {name} {first[name]} and {second[name]}"
    return ""
