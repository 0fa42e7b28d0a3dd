"""One comparison and what may be said of it: two groups differ, are equivalent within a margin, or it cannot be told.

A claim about the comparison then holds, does not hold, or cannot be told. A difference that a test shows counts as one
however small it is. A large p-value alone never becomes "the same": only an equivalence test does, of enough values,
and of weights that moved.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from chimera_lib.stats import Interval

Claim = Literal["greater", "less", "different", "equivalent"]
Relation = Literal["differs", "differs within the margin", "equivalent", "cannot tell"]
Answer = Literal["holds", "does not hold", "cannot tell"]
ALPHA = 0.05
LEAST = 5  # values a group from which on two groups may be called equivalent
HARDLY = 0.1  # share of the other group's way below which weights hardly moved


@dataclass(frozen=True)
class Verdict:
    """A comparison of two groups, or of one with no change, and what may be said of it.

    Attributes:
        name: what is compared.
        effect: mean of the treatment less mean of the control, in `unit`.
        interval: its 95 % interval, Student's of the pairs or Welch's; None where there is no spread or one value.
        bootstrap: the same by resampling pairs, or each group by itself.
        g: Hedges g, with its interval `g_interval`; None as above. Of a slope, see `scaling.slope`.
        p: of the t test that the effect is zero; `p_holm`, corrected over the comparisons made together.
        margin: what still counts as no effect; None where equivalence was not asked.
        p_equivalent: of the two one-sided tests; `p_equivalent_holm`, corrected.
        n: values of the treatment and of the control (the same twice for pairs; 0 where there is no control).
        paired: values were compared by seed.
        claim: what is claimed of the effect, or empty.
        unit: of the effect, such as ``points`` or ``nats``.
        note: why something is missing.
        groups: names of the groups compared.
        moved: how far the weights moved in the group that moved less (or was to stay as it was), over how far they
            moved in the other; None where that is not known.
    """

    name: str
    effect: float
    interval: Interval | None
    bootstrap: Interval | None
    g: float | None
    g_interval: Interval | None
    p: float | None
    p_holm: float | None
    margin: float | None
    p_equivalent: float | None
    p_equivalent_holm: float | None
    n: tuple[int, int]
    paired: bool
    claim: Claim | None = None
    unit: str = ""
    note: str = ""
    groups: tuple[str, ...] = ()
    moved: float | None = None

    @property
    def within(self) -> bool | None:
        """The effect lies within the margin, tested, whatever n is; None where that was not asked or could not be."""
        p = self.p_equivalent if self.p_equivalent_holm is None else self.p_equivalent_holm
        return None if p is None else p < ALPHA

    @property
    def small(self) -> bool:
        """The effect lies within the margin, tested on `LEAST` values a group or more."""
        return bool(self.within) and min(n for n in self.n if n) >= LEAST

    @property
    def equivalent(self) -> bool | None:
        """The effect is small, and not for want of movement of the weights; None where `within` is."""
        return None if self.within is None else self.small and not self.unmoved

    @property
    def unmoved(self) -> bool:
        """The weights of one group are known to have moved less than `HARDLY` of the other's way."""
        return self.moved is not None and self.moved < HARDLY

    @property
    def differs(self) -> bool | None:
        """The effect is not zero, tested, corrected where other comparisons stand beside it; None without a test."""
        p = self.p if self.p_holm is None else self.p_holm
        return None if p is None else p < ALPHA

    @property
    def relation(self) -> Relation:
        """What the two groups are to each other."""
        if self.differs:
            return "differs within the margin" if self.small else "differs"
        return "equivalent" if self.equivalent else "cannot tell"

    @property
    def answer(self) -> Answer:
        """Whether the claim holds; without one, whether the groups differ."""
        claim = self.claim or "different"
        if claim == "equivalent":
            if self.equivalent:
                return "holds"
            return "does not hold" if self.differs and not self.within else "cannot tell"
        if self.differs:
            wanted = {"greater": self.effect > 0, "less": self.effect < 0, "different": True}
            return "holds" if wanted[claim] else "does not hold"
        return "does not hold" if self.equivalent else "cannot tell"

    @property
    def text(self) -> str:
        """The comparison in a sentence, numbers included."""
        unit = f" {self.unit}" if self.unit else ""
        parts = [f"{self.name}: {self.effect:+.3g}{unit}"]
        if self.interval:
            parts.append(f"[{self.interval.low:+.3g}, {self.interval.high:+.3g}]")
        facts = [f"n = {self.n[0]}" + (" pairs" if self.paired else f" and {self.n[1]}" if self.n[1] else "")]
        facts += [f"g = {self.g:+.2f}"] if self.g is not None else []
        p, kind = (self.p, "p") if self.p_holm is None else (self.p_holm, "Holm p")
        facts += [f"{kind} {said(p)}"] if p is not None else []
        p, kind = (self.p_equivalent, "p") if self.p_equivalent_holm is None else (self.p_equivalent_holm, "Holm p")
        facts += [f"equivalence within {self.margin:g}: {kind} {said(p)}"] if p is not None else []
        facts += self._remarks
        facts += [self.note] if self.note else []
        words = f"claimed {self.claim}: {self.answer}" if self.claim else self.relation
        return f"{' '.join(parts)} ({', '.join(facts)}): {words}"

    @property
    def _remarks(self) -> list[str]:
        """What qualifies an effect that lies within the margin."""
        if not self.within:
            return []
        if not self.small:
            return [f"fewer than {LEAST} values: too few to call it equivalent"]
        if self.unmoved:
            return [f"the weights hardly moved: {self.moved:.2g} of the other's way"]
        return ["smaller than the margin"] if self.differs else []

    @property
    def record(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        derived = {"equivalent": self.equivalent, "relation": self.relation, "answer": self.answer, "text": self.text}
        return {**asdict(self), **derived}


def said(p: float) -> str:
    """A p-value for a reader: ``= 0.034``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
