"""Mend the published experiment fault by fault, and see what each of them contributes to its result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from chimera_lib import stats
from chimera_lib.prion import campaign
from chimera_lib.prion.experiment import TREATMENT, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chimera_lib.prion.experiment import Outcome
    from chimera_lib.prion.faults import Faults

Acts = Literal["runs", "report", "nothing"]
CONTROL = "gaussian_noise"
KINDS = (TREATMENT, CONTROL)
# What of a setting some faults act on alone: without them two settings are one and the same run.
ONLY_CONTROLS = ("plain_controls", "fresh_controls", "unmatched_noise", "one_text_seed")
ONLY_TREATMENT = ("unused_directions", "early_stop", "adafactor")
ONLY_REPORT = ("absolute",)
REPORTING = (*ONLY_REPORT, "five_sentences")  # they change what is reported of the same runs


@dataclass(frozen=True)
class Step:
    """The experiment with some of its faults mended.

    Attributes:
        name: the fault mended last, or ``as published``.
        faults: those that are left.
        headline: what it would report, a seed each: its rank reduction by its own measure, catalyst less control.
        damage: the corrected measure of the same runs: change of held-out log-perplexity, catalyst less control.
        treated, control: that measure of each by itself.
        acts_on: what mending this fault at this place can change: the ``runs``, only the ``report`` of the same runs,
            or ``nothing``, by construction: both kinds of runs are those of the step before.
    """

    name: str
    faults: Faults
    headline: tuple[float, ...]
    damage: tuple[float, ...]
    treated: tuple[float, ...]
    control: tuple[float, ...]
    acts_on: Acts = "runs"


def run(
    base: Setting,
    versions: Sequence[tuple[str, Faults]],
    seeds: Sequence[int],
    *,
    processes: int = 1,
    rows: Path | None = None,
    progress: bool = True,
) -> list[Step]:
    """Run catalyst and control of each version of the experiment with each seed; what comes to the same is run once.

    Args:
        base: model, steps and optimizer of all runs.
        versions: name and faults of each, as `faults.cascade` gives them.
        seeds: at least two.
        processes, rows, progress: as of `campaign.run`.

    Raises:
        ChimeraError: a run failed.
    """
    wanted = {
        (name, kind, seed): replace(base, faults=version, treatment=kind, seed=seed)
        for name, version in versions
        for kind in KINDS
        for seed in seeds
    }
    outcomes, failures = campaign.run(
        [effective(one) for one in wanted.values()], processes=processes, trail=(), rows=rows, progress=progress
    )
    if failures:
        raise campaign.failed(failures)
    done = {one.setting: one for one in outcomes}
    steps: list[Step] = []
    for name, version in versions:
        pairs = [[_as(done, wanted[name, kind, seed]) for kind in KINDS] for seed in seeds]
        treated, control = zip(*[(a.log_perplexity_change, b.log_perplexity_change) for a, b in pairs], strict=True)
        steps.append(
            Step(
                name=name,
                faults=version,
                headline=tuple(a.headline - b.headline for a, b in pairs),
                damage=tuple(a - b for a, b in zip(treated, control, strict=True)),
                treated=treated,
                control=control,
                acts_on=_acts_on(replace(base, faults=steps[-1].faults), version) if steps else "runs",
            )
        )
    return steps


def effective(setting: Setting) -> Setting:
    """The same run without the faults that do not act on it, so that equal runs are equal."""
    there = setting.faults
    is_treatment = setting.treatment == TREATMENT
    idle = [*ONLY_REPORT, *(ONLY_CONTROLS if is_treatment else (*ONLY_TREATMENT, "sharp_end"))]
    if is_treatment and there.unused_directions:
        idle.append("sharp_end")  # whatever was found, the catalyst does not look at it
    if setting.rate == replace(setting, faults=there.without("rate_by_size")).rate:
        idle.append("rate_by_size")  # the model is small, or its rate is given
    if not is_treatment and not there.plain_controls:
        idle.remove("adafactor")
    if setting.treatment != "random_text":
        idle.append("one_text_seed")
    # Both kinds of measures are always taken: this fault says which of them is reported.
    idle.append("five_sentences")
    return replace(setting, faults=there.without(*idle))


def metrics(steps: Sequence[Step]) -> dict[str, Any]:
    """Metrics for a record: at each step the effect as reported, and by the measure that does not change."""
    found: dict[str, Any] = {}
    for step in steps:
        name = step.name.replace(" ", "_")
        for kind in ("headline", "damage", "treated", "control"):
            values = getattr(step, kind)
            mean = sum(values) / len(values)
            found[f"{name}_{kind}"] = {"value": mean, "n": len(values), "ci": list(stats.student(values))}
    return found


def _acts_on(before: Setting, after: Faults) -> Acts:
    pairs = [(replace(before, treatment=kind), replace(before, treatment=kind, faults=after)) for kind in KINDS]
    if any(effective(one) != effective(two) for one, two in pairs):
        return "runs"
    return "report" if (set(before.faults.present) ^ set(after.present)) & set(REPORTING) else "nothing"


def _as(done: dict[Setting, Outcome], setting: Setting) -> Outcome:
    """The outcome of a setting, found by what is run, reported with all its faults."""
    return replace(done[effective(setting)], setting=setting)
