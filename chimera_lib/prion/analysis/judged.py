"""The verdicts of a priority: every group against no change, every pair against each other, corrected and bounded."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from chimera_lib import effects
from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import describe, movement, scaling, verdicts
from chimera_lib.prion.analysis import groups as grouping
from chimera_lib.prion.analysis.runs import LOG_PERPLEXITY, RANK_REDUCTION, paired, values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chimera_lib.prion.analysis.runs import RunResult
    from chimera_lib.prion.analysis.verdicts import Claim, Verdict

    Groups = Mapping[str, Sequence[RunResult]]

UNITS = {RANK_REDUCTION: "points", LOG_PERPLEXITY: "nats"}
SAID = {RANK_REDUCTION: "rank reduction", LOG_PERPLEXITY: "log-perplexity change"}


class Margins(NamedTuple):
    """What still counts as no effect: of rank reduction in percentage points, of log-perplexity in nats.

    The smallest effect on the rank that the source makes a claim of is about 3 points: a margin has to be well below.
    """

    rank: float = 1.0
    log_perplexity: float = 0.1

    def of(self, metric: str) -> float:
        """The margin of a metric."""
        return self.rank if metric == RANK_REDUCTION else self.log_perplexity


def judge(priority: int, groups: Groups, metric: str, margins: Margins) -> dict[str, list[Verdict]]:
    """All comparisons of a metric.

    Returns:
        ``changes``: each group against no change (the source says: those attacked collapse, the others stay as they
        were); ``differences``: each pair of groups, Welch; ``paired``: the same by seed, where seeds are shared;
        ``scaling``: the slope over sizes, signed and of magnitudes. Each list is a family for Holm's correction.
    """
    samples = {name: found for name, members in groups.items() if (found := values(members, metric))}
    options: dict[str, Any] = {"margin": margins.of(metric), "unit": UNITS[metric]}
    first = grouping.reference(samples, priority)  # type: ignore[arg-type]
    changes = [
        verdicts.against_zero(
            found,
            name=f"{name}, {SAID[metric]}",
            claim=_change(priority, name),
            groups=(name,),
            moved=movement.share(groups[name], groups[first]) if first and name != first else None,
            **options,
        )
        for name, found in samples.items()
    ]
    differences, by_seed = [], []
    for one, two in itertools.combinations(samples, 2) if priority > 1 else ():
        one, two = (two, one) if two == first else (one, two)
        claim: Claim | None = "greater" if one == first and two not in grouping.PRIORITIES[priority].attacks else None
        name = f"{one} less {two}, {SAID[metric]}"
        both = {
            **options,
            "claim": claim,
            "groups": (one, two),
            "moved": movement.lesser_share(groups[one], groups[two]),
        }
        differences.append(verdicts.compare(samples[one], samples[two], paired=False, name=name, **both))
        pairs = paired(groups[one], groups[two], metric)
        if len(pairs[0]) > 1:
            by_seed.append(verdicts.compare(*pairs, paired=True, name=f"{name}, by seed", **both))
    slopes = (
        [
            scaling.slope(groups, metric, unit=UNITS[metric]),
            scaling.slope(groups, metric, absolute=True, unit=UNITS[metric]),
        ]
        if priority == 1
        else []
    )
    families = {"changes": changes, "differences": differences, "paired": by_seed, "scaling": slopes}
    return {name: verdicts.holm_all(family) for name, family in families.items()}


def welch(groups: Groups, metric: str) -> dict[str, Any]:
    """Welch's analysis of variance over the groups that vary; those that do not are named, as is why there is none."""
    samples = {name: found for name, members in groups.items() if (found := values(members, metric))}
    single = [name for name, found in samples.items() if len(found) < 2]
    still = [name for name, found in samples.items() if describe.repeated(found)]
    kept = [found for name, found in samples.items() if name not in single + still]
    facts = {"metric": metric, "left_out": single + still}
    try:
        return {**facts, **effects.welch_anova(kept)._asdict(), "error": None}
    except ChimeraError as error:
        return {**facts, "statistic": None, "p": None, "error": str(error)}


def _change(priority: int, name: str) -> Claim:
    """What the source claims of a group's change: damage, or none."""
    attacks = grouping.PRIORITIES[priority].attacks
    return "greater" if not attacks or name in attacks else "equivalent"
