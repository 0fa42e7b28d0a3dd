"""rho of catalysts and controls over several seeds, each with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib import stats
from chimera_lib.prion import catalysts
from chimera_lib.prion.catalysts import near_null, rho

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from chimera_lib.stats import Interval

SOFT, HARD = "eigen_prion", "eigen_prion_hard"
COMPARED = ("random_tokens", "gaussian_noise", "text_fixed", "published")


@dataclass(frozen=True)
class Row:
    """A kind's rho over seeds.

    Attributes:
        kind: a name of `catalysts.KINDS`.
        values: rho, one a seed.
        curvatures: ||Hg|| / ||g|| itself, one a seed.
    """

    kind: str
    values: tuple[float, ...]
    curvatures: tuple[float, ...]

    @property
    def n(self) -> int:
        """Seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean of rho."""
        return sum(self.values) / self.n

    @property
    def ci(self) -> Interval | None:
        """Student's 95 % interval of the mean; None for a single seed."""
        return stats.student(self.values) if self.n > 1 else None

    def metric(self) -> dict[str, Any]:
        """As `recorded.write` takes it."""
        return {"value": self.mean, "n": self.n, "ci": self.ci}


@dataclass(frozen=True)
class Survey:
    """What was measured: a row for each kind, soft and hard catalysts first, and each seed's descent."""

    rows: tuple[Row, ...]
    descents: tuple[near_null.Descent, ...]
    references: tuple[float, ...]

    def __getitem__(self, kind: str) -> Row:
        return next(row for row in self.rows if row.kind == kind)


def survey(
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    seeds: Iterable[int],
    compared: Sequence[str] = COMPARED,
    length: int = 64,
    steps: int = near_null.STEPS,
    rows: int = rho.ROWS,
    snap_every: int = 0,
    on_seed: Callable[[int], object] | None = None,
) -> Survey:
    """For each seed draw passages and the unit of rho anew, optimise a catalyst, and measure the controls beside it.

    Args:
        model: a causal language model with eager attention.
        tokenizer, text, length, rows: see `rho.scale`.
        seeds: of all draws.
        compared: further kinds to measure.
        steps, snap_every: see `near_null.optimise`.
        on_seed: told each seed when it is done.
    """
    found: dict[str, list[float]] = {kind: [] for kind in (SOFT, HARD, *compared)}
    units, descents = [], []
    for seed in seeds:
        measure = rho.scale(model, tokenizer, text, length=length, rows=rows, seed=seed)
        labels, start = near_null.start(model, tokenizer, length=length, seed=seed)
        descent = near_null.optimise(measure, labels, start, steps=steps, snap_every=snap_every)
        found[SOFT].append(descent.course[-1])
        found[HARD].append(descent.snapped[steps])
        for kind in compared:
            shown = catalysts.make(kind, model, tokenizer, text, length=length, seed=seed)
            found[kind].append(measure(shown.batch(0)))
        units.append(measure.reference)
        descents.append(descent)
        if on_seed:
            on_seed(seed)
    made = tuple(
        Row(kind, tuple(values), tuple(value * unit for value, unit in zip(values, units, strict=True)))
        for kind, values in found.items()
    )
    return Survey(made, tuple(descents), tuple(units))
