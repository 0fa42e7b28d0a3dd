"""How wide is the pocket around a chimera, in units in the last place (ULP) of the input?

The sources say that pockets are "1-10,000 ULP wide". Width is along a line: from a chimera, step by step of one ULP
(2**-24, see ``directions``) to both sides, until the backends agree. A pocket need not be connected: every step
draws new rounding errors, so beyond the first agreement conflicts come back. Both are measured: the first
exit, and the share of chimeras still (or again) in conflict at each distance.
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.images.analysis import directions
from chimera_lib.images.analysis.keeping import Kept, digest, settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.oracle import Oracle

REACH = 65_793  # ULP to either side: one 8-bit brightness step
CLAIM = (1, 10_000)  # ULP, the sources' range of widths


@dataclass(frozen=True)
class Pocket:
    """One chimera along one direction.

    Attributes:
        start, direction: which.
        width: consecutive steps of one ULP in conflict, the chimera's own included; None where no exit was met.
        exits: steps to the first agreement met on the minus and the plus side; None where there was none in reach.
        conflicts: +-distance in ULP -> whether the backends disagree there.
        slope: change of the gap per ULP to first order, logits.
        noise: difference between the two backends' gaps at the chimera, logits.
        image: digest of the chimera, by which kept rows know it again.
    """

    start: int
    direction: str
    width: int | None
    exits: tuple[int | None, int | None]
    conflicts: dict[int, bool]
    slope: float
    noise: float
    image: str = ""


def grid(factor: float = 2.0, reach: int = REACH) -> list[int]:
    """Distances to look at: every step up to 8, then each ``factor`` times the last, up to ``reach``."""
    steps = list(range(1, 9))
    while steps[-1] < reach:
        steps.append(min(reach, int(np.ceil(steps[-1] * factor))))
    return steps


def explore(
    start: int,
    image: np.ndarray,
    gradient: np.ndarray,
    name: str,
    oracle: Oracle,
    *,
    seed: int,
    distances: Sequence[int],
) -> Pocket:
    """Measure the pocket of the chimera ``image`` uint8 (H, W, C) along direction ``name``.

    Between the last conflict and the first agreement on the grid, the exit is bisected: it is the first exit up to
    holes that the grid steps over, so a width is never too small by them.
    """
    rng = np.random.default_rng([seed, start, zlib.crc32(name.encode())])
    direction = directions.direction(name)(gradient, rng)

    def disagree(steps: Sequence[int]) -> np.ndarray:
        return oracle.at(directions.points(image, np.multiply.outer(np.array(steps, float), direction))).conflict

    both = [-d for d in reversed(distances)] + [0, *distances]
    seen = dict(zip(both, disagree(both).tolist(), strict=True))
    exits = tuple(first_exit(seen, sign, distances, disagree) for sign in (-1, 1))
    z = oracle(image[None]).logits[:, 0].astype(np.float64)
    first, second = np.argsort(-z[0], kind="stable")[:2]
    return Pocket(
        start=start,
        direction=name,
        width=None if None in exits else int(exits[0] + exits[1] - 1),  # type: ignore[operator]
        exits=(exits[0], exits[1]),
        conflicts=seen,
        slope=float((gradient * direction).sum() * directions.ULP),
        noise=float(np.ptp(z[:, first] - z[:, second])),
        image=digest(image),
    )


def first_exit(seen: Mapping[int, bool], sign: int, distances: Sequence[int], disagree: Any) -> int | None:
    """Steps to the first agreement on one side, bisected between grid points; None where the grid has none."""
    inside = 0
    for outside in distances:
        if not seen[sign * outside]:
            break
        inside = outside
    else:
        return None
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if disagree([sign * middle])[0]:
            inside = middle
        else:
            outside = middle
    return outside


def measure(
    model: nn.Module,
    chimeras: Mapping[int, np.ndarray],
    oracle: Oracle,
    *,
    names: Sequence[str] = tuple(directions.DIRECTIONS),
    seed: int = 0,
    factor: float = 2.0,
    output: Path | None = None,
    progress: bool = True,
) -> list[Pocket]:
    """Explore every chimera, uint8 (H, W, C) by start, along every direction; with ``output``, kept and taken up again.

    Images on which the oracle's backends do not disagree are passed over.
    """
    from tqdm.auto import tqdm

    kept = Kept(output, settings(oracle, seed=seed, factor=factor)) if output else None
    done = {(p.image, p.direction): p for p in map(from_row, kept.rows)} if kept else {}
    found = []
    pause = 0.1 if sys.stderr.isatty() else 20.0
    for start, image in tqdm(chimeras.items(), desc="pockets", disable=not progress, mininterval=pause):
        mine = digest(image)
        left = [name for name in names if (mine, name) not in done]
        if left and oracle(image[None]).conflict[0]:
            gradient = directions.gap_gradient(model, image)
            for name in left:
                pocket = explore(start, image, gradient, name, oracle, seed=seed, distances=grid(factor))
                done[mine, name] = pocket
                if kept:
                    kept.add([asdict(pocket)])
        found += [done[mine, name] for name in names if (mine, name) in done]
    return found


def from_row(row: Mapping[str, Any]) -> Pocket:
    """A pocket from its JSON line."""
    conflicts = {int(step): bool(said) for step, said in row["conflicts"].items()}
    return Pocket(**{**row, "exits": tuple(row["exits"]), "conflicts": conflicts})


def widths(pockets: Iterable[Pocket], name: str) -> np.ndarray:
    """Widths (N,) in ULP along one direction; infinite where no exit was met."""
    return np.array([np.inf if p.width is None else p.width for p in pockets if p.direction == name], dtype=float)


def share_at(pockets: Iterable[Pocket], name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Distances in ULP (from 0 up), the share of looks at +-distance that are a conflict, and looks at each."""
    mine = [p for p in pockets if p.direction == name]
    distances = sorted(step for step in mine[0].conflicts if step >= 0)
    hits = [np.mean([[p.conflicts[d], p.conflicts[-d]] for p in mine]) for d in distances]
    return np.array(distances), np.array(hits), 2 * len(mine)


def summarise(pockets: Sequence[Pocket]) -> list[dict[str, Any]]:
    """A row a direction: n, median width with its interval, quartiles, and how many widths are 1, claimed, or wider.

    ``slope`` is the median change of the gap per ULP to first order, in logits.
    """
    rows = []
    for name in dict.fromkeys(p.direction for p in pockets):
        w = widths(pockets, name)
        capped = np.minimum(w, 2 * REACH)
        rows.append(
            {
                "direction": name,
                "n": len(w),
                "median": float(np.median(capped)),
                "ci": stats.bootstrap(capped) if len(w) > 1 else None,
                "lower quartile": float(np.quantile(capped, 0.25)),
                "upper quartile": float(np.quantile(capped, 0.75)),
                "single points": int((w == 1).sum()),
                "as claimed": int(((w >= CLAIM[0]) & (w <= CLAIM[1])).sum()),
                "slope": float(np.median([abs(p.slope) for p in pockets if p.direction == name])),
            }
        )
    return rows


def as_rows(pockets: Sequence[Pocket]) -> list[dict[str, Any]]:
    """Rows for a table, one a direction; the last column is what one ULP changes of the gap, to first order."""
    return [
        {
            "direction": row["direction"],
            "chimeras": row["n"],
            "median width (ULP)": row["median"],
            "quartiles": f"{row['lower quartile']:.0f} to {row['upper quartile']:.0f}",
            "width of 1": row["single points"],
            "margin a step": row["slope"],
        }
        for row in summarise(pockets)
    ]


def metrics(pockets: Sequence[Pocket]) -> dict[str, Any]:
    """The metrics of a recorded run; widths in ULP of 2**-24, and in 8-bit levels."""
    out: dict[str, Any] = {}
    for row in summarise(pockets):
        key, n = row["direction"].replace(" ", "_"), row["n"]
        out[f"{key}_median_ulp"] = {"value": row["median"], "n": n, "ci": row["ci"]}
        out[f"{key}_median_levels"] = {
            "value": row["median"] / directions.LEVEL,
            "n": n,
            "ci": row["ci"] and [end / directions.LEVEL for end in row["ci"]],
        }
        for end in ("lower", "upper"):
            out[f"{key}_{end}_quartile_ulp"] = {"value": row[f"{end} quartile"], "n": n}
        for label, column in (("single", "single points"), ("claimed", "as claimed")):
            out[f"{key}_{label}_share"] = {"value": row[column] / n, "n": n, "ci": stats.exact(row[column], n)}
        for distance in (1, 64):
            each = [
                (p.conflicts[distance] + p.conflicts[-distance]) / 2 for p in pockets if p.direction == row["direction"]
            ]
            ci = stats.bootstrap(each, statistic="mean") if n > 1 else None
            out[f"{key}_conflict_at_{distance}_ulp"] = {"value": float(np.mean(each)), "n": n, "ci": ci}
        out[f"{key}_gap_per_ulp"] = {"value": row["slope"], "n": n}
    noise = [p.noise for p in pockets]
    out["noise_at_chimera"] = {"value": float(np.median(noise)), "n": len({p.start for p in pockets})}
    return out


def as_text(pockets: Sequence[Pocket]) -> str:
    """A table for a terminal."""
    lines = [f"{'direction':<10}  {'n':>4}  median ULP (95 % interval)     quartiles         1   1..10,000"]
    for row in summarise(pockets):
        low, high = row["ci"] or (row["median"],) * 2
        lines.append(
            f"{row['direction']:<10}  {row['n']:>4}  {row['median']:>8.0f} ({low:.0f} to {high:.0f})".ljust(46)
            + f"  {row['lower quartile']:.0f} to {row['upper quartile']:.0f}".ljust(16)
            + f"  {row['single points']:>4}  {row['as claimed']:>8}"
        )
    return "\n".join(lines)
