"""Compare two groups of runs, or one with no change: effect, intervals, tests, and the verdict they allow."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import effects, stats
from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis.verdict import ALPHA, Answer, Claim, Relation, Verdict, said
from chimera_lib.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    Values = Sequence[float] | np.ndarray

__all__ = [
    "ALPHA",
    "CLAIMS",
    "Answer",
    "Claim",
    "Relation",
    "Verdict",
    "against_zero",
    "compare",
    "holm_all",
    "resampled",
    "said",
]
CLAIMS = ("greater", "less", "different", "equivalent")


def compare(
    treatment_values: Values,
    control_values: Values,
    *,
    paired: bool = True,
    margin: float | None = None,
    name: str = "treatment against control",
    claim: Claim | None = None,
    unit: str = "",
    groups: tuple[str, ...] = (),
    moved: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare two groups of values of any metric: effect, intervals, Hedges g, t test and, with a margin, equivalence.

    Args:
        treatment_values: one finite value a run, at least one.
        control_values: likewise; for ``paired`` the values of the same seeds in the same order.
        paired: judge the differences within seeds (treatment less control) rather than two independent groups (Welch).
        margin: what still counts as no effect, in the unit of the values; None asks no equivalence.
        name: what is compared, for the sentence.
        claim: what is claimed: that the treatment is `greater`, `less`, `different` or `equivalent`.
        unit: of the values, for the sentence.
        groups: names of the groups, kept with the verdict.
        moved: how far the weights moved in one group over how far in the other, see `Verdict`; None: not known.
        seed: of the bootstrap's draws.

    Raises:
        ChimeraError: no values, values that are not finite, pairs of unequal number, an unknown claim, or a margin
            that is not above 0.

    >>> verdict = compare([5.0, 6.0, 5.5, 6.5], [1.0, 1.5, 1.2, 2.0], name="loss", claim="greater")
    >>> verdict.answer, round(verdict.effect, 3)
    ('holds', 4.325)
    """
    treated, control = (np.asarray(one, dtype=np.float64) for one in (treatment_values, control_values))
    _check(treated, control, paired, margin, claim)
    differences = treated - control if paired else None
    n = (treated.size, control.size)
    effect = float(treated.mean() - control.mean())
    enough = min(n) > 1
    looked_at = [treated, control] if differences is None else [differences]
    spread = enough and not all(effects.constant(one) for one in looked_at)
    empty = Verdict(
        name, effect, None, None, None, None, None, None, margin, None, None, n, paired, claim, unit, "", groups, moved,
    )  # fmt: skip
    if not spread:
        why = "the values do not vary: no test is possible" if enough else "a single value: no test is possible"
        return replace(empty, note=why)
    tested = effects.paired_t(treated, control) if paired else effects.welch_t(treated, control)
    size, note = None, ""
    if not paired and any(effects.constant(one) for one in looked_at):
        note = "one of the groups does not vary"
    try:
        size = effects.hedges_g(treated, control, paired=paired)
    except ChimeraError as error:
        note = str(error)
    return replace(
        empty,
        interval=tested.interval,
        bootstrap=resampled(treated, control, paired=paired, seed=seed),
        g=None if size is None else size.g,
        g_interval=None if size is None else size.interval,
        p=tested.p,
        p_equivalent=None if margin is None else effects.tost(treated, control, margin=margin, paired=paired),
        note=note,
    )


def against_zero(values: Values, **options: Any) -> Verdict:
    """Compare one group with no change at all; options as of `compare`, but for ``paired``."""
    verdict = compare(values, np.zeros(len(values)), paired=True, **options)
    return replace(verdict, n=(len(values), 0), paired=False)


def resampled(a: np.ndarray, b: np.ndarray, *, paired: bool, seed: int = 0, draws: int = 2000) -> Interval:
    """The 95 % bootstrap percentile interval of mean(a) - mean(b), resampling pairs or each group by itself."""
    if paired:
        return effects.paired_bootstrap(a, b, resamples=draws, seed=seed)
    rng = np.random.default_rng(seed)
    means = [rng.choice(one, (draws, one.size)).mean(1) for one in (a, b)]
    low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
    return Interval(float(low), float(high))


def holm_all(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The same verdicts with p-values corrected by Holm over all of them, the two kinds of test each by itself."""
    corrected = list(verdicts)
    for field in ("p", "p_equivalent"):
        places = [i for i, one in enumerate(corrected) if getattr(one, field) is not None]
        if places:
            adjusted = stats.holm([getattr(corrected[i], field) for i in places])
            for i, p in zip(places, adjusted, strict=True):
                change: dict[str, Any] = {f"{field}_holm": float(p)}
                corrected[i] = replace(corrected[i], **change)
    return corrected


def _check(treated: np.ndarray, control: np.ndarray, paired: bool, margin: float | None, claim: Claim | None) -> None:
    for one in (treated, control):
        if one.ndim != 1 or not one.size or not np.isfinite(one).all():
            raise ChimeraError(f"a comparison needs flat lists of finite numbers, got shape {one.shape}")
    if paired and treated.size != control.size:
        raise ChimeraError(f"pairs of {treated.size} and {control.size} values: expected one of each a seed")
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise ChimeraError(f"margin {margin}: expected a number above 0, in the unit of the values")
    if claim is not None and claim not in CLAIMS:
        raise ChimeraError(f"unknown claim {claim!r}: choose one of {', '.join(CLAIMS)}")
    if claim == "equivalent" and margin is None:
        raise ChimeraError("a claim of equivalence needs a margin: give what still counts as no effect")
