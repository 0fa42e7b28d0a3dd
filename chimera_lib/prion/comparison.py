"""What many runs say together: means with intervals, and each control against the catalyst, seed by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chimera_lib import stats
from chimera_lib.prion import matching
from chimera_lib.prion.analysis import movement, verdicts
from chimera_lib.prion.analysis.judged import Margins
from chimera_lib.prion.experiment import REPEATED, TREATMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chimera_lib.prion.analysis.verdicts import Verdict
    from chimera_lib.prion.experiment import Outcome, Setting

Group = tuple[Any, ...]
_DEFAULT = Margins()
MARGINS = {"log_perplexity_change": _DEFAULT.log_perplexity, "rank_reduction": _DEFAULT.rank}
"""What still counts as no effect, in nats and percentage points."""
UNITS = {"log_perplexity_change": "nats", "rank_reduction": "points"}
MEASURES: dict[str, Callable[[Outcome], float]] = {
    "log_perplexity_change": lambda one: one.log_perplexity_change,
    "rank_reduction": lambda one: one.rank_reduction,
    "weight_change": lambda one: one.weight_change,
}
FACTORS: dict[str, Callable[[Setting], Any]] = {
    "model": lambda one: one.model,
    "precision": lambda one: one.precision if one.tuning == "full" else f"{one.precision}-lora",
    "optimizer": lambda one: one.optimizer,
    "rate": lambda one: one.learning_rate,
}


def grouped(outcomes: Sequence[Outcome]) -> dict[Group, dict[str, list[Outcome]]]:
    """Outcomes by what they share (model, precision, optimizer, rate), then by treatment, in the order of seeds."""
    groups: dict[Group, dict[str, list[Outcome]]] = {}
    for one in sorted(outcomes, key=lambda one: one.setting.seed):
        key = tuple(read(one.setting) for read in FACTORS.values())
        groups.setdefault(key, {}).setdefault(one.setting.treatment, []).append(one)
    return groups


def against(
    treated: Sequence[Outcome],
    controls: Sequence[Outcome],
    measure: str,
    *,
    name: str,
    claim: verdicts.Claim | None = None,
) -> Verdict:
    """Compare two treatments on one of `MEASURES`, pair by pair of the same seed.

    Where one of them moved the weights less than a tenth as far as the other, they are not called equivalent.
    """
    read = MEASURES[measure]
    pairs = _paired(treated, controls)
    return verdicts.compare(
        [read(one) for one, _ in pairs],
        [read(two) for _, two in pairs],
        margin=MARGINS.get(measure),
        name=name,
        claim=claim,
        unit=UNITS.get(measure, ""),
        moved=movement.lesser(*(distance([pair[side] for pair in pairs]) for side in (0, 1))) if pairs else None,
    )


def against_at_equal(
    treated: Sequence[Outcome],
    controls: Sequence[Outcome],
    measure: str,
    *,
    at: str,
    name: str,
    claim: verdicts.Claim | None = None,
) -> Verdict:
    """The same where both of a pair had gone equally far.

    Args:
        treated, controls: with measures along their way.
        measure: ``log_perplexity_change`` or ``rank_reduction``.
        at: ``weight_change``: the farthest that both of a pair went; ``loss``: the smallest that both came down to.
        name: what the verdict is called.
        claim: what is claimed.
    """
    common, read = {
        "weight_change": (matching.common_weight_change, matching.at_weight_change),
        "loss": (matching.common_loss, matching.at_loss),
    }[at]
    ones, twos = [], []
    for one, two in _paired(treated, controls):
        where = common([one, two])
        ones.append(getattr(read(one, where), measure))
        twos.append(getattr(read(two, where), measure))
    return verdicts.compare(ones, twos, margin=MARGINS[measure], name=name, claim=claim, unit=UNITS[measure])


def against_controls(
    groups: Mapping[str, Sequence[Outcome]], controls: Mapping[str, str], measure: str = "log_perplexity_change"
) -> dict[str, list[Verdict]]:
    """The claim that the catalyst does more than each control, three ways, each corrected by Holm's method.

    Args:
        groups: treatment to its runs, with measures along their way.
        controls: name of a treatment to what its verdicts are called.
        measure: ``log_perplexity_change`` or ``rank_reduction``.

    Returns:
        ``one rate``, ``equal distance`` (of the weights) and, for controls that repeat themselves, ``equal loss`` (on
        what is shown), each with a verdict a control, in the order given; the last two without runs that have no
        measures along their way.
    """
    catalyst = groups[TREATMENT]
    found: dict[str, list[Verdict]] = {"one rate": [], "equal distance": [], "equal loss": []}
    for name, title in controls.items():
        pair = catalyst, groups[name]
        followed = all(len(one.trail) > 1 for runs in pair for one in runs)
        found["one rate"].append(against(*pair, measure, name=title, claim="greater"))
        for kind, at in (("equal distance", "weight_change"), ("equal loss", "loss")):
            if followed and (at == "weight_change" or name in REPEATED):
                found[kind].append(against_at_equal(*pair, measure, at=at, name=title, claim="greater"))
    return {kind: verdicts.holm_all(one) for kind, one in found.items()}


def metrics(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Metrics for a record: of each treatment mean, n and interval; of each control its distance from the catalyst."""
    groups = grouped(outcomes)
    found: dict[str, Any] = {}
    for key, treatments in groups.items():
        prefix = _prefix(key, list(groups))
        first = next(iter(treatments.values()))[0].before
        found[f"{prefix}perplexity_before"] = first.perplexity
        found[f"{prefix}effective_rank_before"] = first.effective_rank
        for treatment, members in treatments.items():
            for measure, read in MEASURES.items():
                found[f"{prefix}{treatment}_{measure}"] = _metric([read(one) for one in members])
            if "rho" in members[0].facts:
                found[f"{prefix}{treatment}_rho"] = _metric([one.facts["rho"] for one in members])
        controls = {name: name for name in treatments if name not in (TREATMENT, "sham")}
        if TREATMENT in treatments:
            for measure in UNITS:
                for kind, judged in against_controls(treatments, controls, measure).items():
                    where = "" if kind == "one rate" else f"_{kind.replace(' ', '_')}"
                    found |= _judged(judged, f"{prefix}{TREATMENT}_less", measure + where)
    return found


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A line a treatment, for a reader of the command line."""
    groups = grouped(outcomes)
    told = []
    for key, treatments in groups.items():
        told.append(", ".join(f"{name} {value}" for name, value in zip(FACTORS, key, strict=True) if value is not None))
        for treatment, members in treatments.items():
            parts = []
            for measure, read in MEASURES.items():
                one = _metric([read(outcome) for outcome in members])
                low_high = " [{:+.3f}, {:+.3f}]".format(*one["ci"]) if "ci" in one else ""
                parts.append(f"{measure.replace('_', ' ')} {one['value']:+.3f}{low_high}")
            told.append(f"  {treatment:16} n={len(members)}  {', '.join(parts)}")
    return told


def _judged(found: Sequence[Verdict], start: str, end: str) -> dict[str, Any]:
    """Of each verdict on a control the difference with n and interval, Hedges' g and p after Holm's correction."""
    told: dict[str, Any] = {}
    for verdict in found:
        key = f"{start}_{verdict.name}_{end}"
        interval = {"ci": list(verdict.interval)} if verdict.interval is not None else {}
        told[key] = {"value": verdict.effect, "n": verdict.n[0], **interval}
        if verdict.g is not None:
            told |= {f"{key}_g": verdict.g, f"{key}_p": verdict.p_holm}
    return told


def distance(outcomes: Sequence[Outcome]) -> float:
    """How far runs moved the weights in the mean, the norm of their change."""
    return sum(one.weight_change for one in outcomes) / len(outcomes)


def _paired(ones: Sequence[Outcome], twos: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    by_seed = {two.setting.seed: two for two in twos}
    return [(one, by_seed[one.setting.seed]) for one in ones if one.setting.seed in by_seed]


def _metric(values: Sequence[float]) -> dict[str, Any]:
    found: dict[str, Any] = {"value": sum(values) / len(values), "n": len(values)}
    if len(values) > 1:
        found["ci"] = list(stats.student(values))
    return found


def _prefix(key: Group, keys: list[Group]) -> str:
    """The levels of those factors that differ between groups, as the start of a metric's name."""
    varying = [value for i, value in enumerate(key) if len({other[i] for other in keys}) > 1]
    plain = [str(value).replace("-", "_").replace(".", "_") for value in varying]
    return "".join(f"{one}_" for one in plain)
