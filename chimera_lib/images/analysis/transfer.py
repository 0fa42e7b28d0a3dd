"""Do chimeras hold on backends that the search never asked? Searched-on against tested-on.

A row is a folder that a search wrote, with the backends that it asked; a column a pair of backends. The cell is the
share of the folder's chimeras on which the pair disagrees. A pair is *held out* when neither of its backends shares
a bit class with one that was searched on: builds of one kernel set are the same arithmetic under two
names, and count as searched. So does PyTorch, by whose network every search finds its way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import BackendDied, ChimeraError
from chimera_lib.images import campaign
from chimera_lib.images.backends import equivalence
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from chimera_lib.images.network import Network

WALKER = "torch"  # what searches evaluate candidates on before they ask
ENOUGH = 100  # chimeras a cell, below which its interval is too wide to be worth much


@dataclass(frozen=True)
class Searched:
    """What a search left: a label, the backends it asked, its distinct chimeras uint8 (N, H, W, 3) and their starts."""

    label: str
    backends: tuple[str, ...]
    images: np.ndarray
    starts: np.ndarray


@dataclass(frozen=True)
class Cell:
    """One folder's chimeras, from ``starts`` (N,), on one pair: ``conflict`` bool (N,).

    ``shares`` names those of the pair that share a bit class with what was searched on.
    """

    label: str
    pair: tuple[str, str]
    conflict: np.ndarray
    shares: tuple[str, ...]
    starts: np.ndarray

    @property
    def held_out(self) -> bool:
        """Whether the search asked neither backend, under any name."""
        return not self.shares

    @property
    def rate(self) -> float:
        """Share of the chimeras on which the pair disagrees."""
        return float(self.conflict.mean())

    @property
    def interval(self) -> stats.Interval:
        """Clopper-Pearson interval of the rate."""
        return stats.exact(int(self.conflict.sum()), len(self.conflict))


def read(folders: Sequence[Path]) -> list[Searched]:
    """The chimeras in each folder of a campaign, labelled by the folders' names; ChimeraError where there are none."""
    found = []
    for folder in folders:
        backends = campaign.head_of(folder).get("backends", {})
        images: dict[bytes, tuple[int, np.ndarray]] = {}
        for row, image in campaign.load(folder).values():
            if image is not None:
                images.setdefault(image.tobytes(), (row.start, image))
        if not images or len(backends) < 2:
            raise ChimeraError(f"{folder}: no chimeras with their backends in it; name a folder that a search wrote")
        label = folder.name if [f.name for f in folders].count(folder.name) == 1 else "-".join(folder.parts[-2:])
        starts, stack = zip(*images.values(), strict=True)
        found.append(Searched(label, tuple(backends), np.stack(stack), np.array(starts)))
    if len({one.label for one in found}) < len(found):
        raise ChimeraError(f"{', '.join(map(str, folders))}: two folders of one name; give each a name of its own")
    return found


def classes(network: Network, names: Sequence[str]) -> dict[str, int]:
    """Bit class of each backend; one that does not run here is in a class of its own (a negative number)."""
    table = equivalence.survey(network, list(dict.fromkeys(names)))
    return {row.name: row.bit_class or -1 - i for i, row in enumerate(table)}


def matrix(network: Network, searched: Sequence[Searched], pairs: Sequence[tuple[str, str]]) -> list[Cell]:
    """Show every folder's chimeras to every pair; a cell each, row by row."""
    asked = list(dict.fromkeys(name for pair in pairs for name in pair))
    of = classes(network, [*asked, WALKER, *(name for one in searched for name in one.backends)])
    cells = []
    with Oracle(network, asked) as oracle:
        for one in searched:
            verdict = oracle(one.images)
            if lost := set(asked) - set(verdict.names):
                raise BackendDied(f"lost {', '.join(sorted(lost))} on the way; leave it out or run again")
            said = dict(zip(verdict.names, verdict.predictions, strict=True))
            known = {of[name] for name in (*one.backends, WALKER)}
            for a, b in pairs:
                shares = tuple(name for name in (a, b) if of[name] in known)
                cells.append(Cell(one.label, (a, b), said[a] != said[b], shares, one.starts))
    return cells


def held_out_pairs(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """The pairs that are held out for every folder, so that folders are compared on the same ones."""
    pairs = dict.fromkeys(cell.pair for cell in cells)
    return [pair for pair in pairs if all(cell.held_out for cell in cells if cell.pair == pair)]


def held_out(cells: Sequence[Cell], label: str) -> dict[int, float]:
    """Start -> share of the held-out pairs that disagree on a folder's chimera from there; empty without such pairs."""
    pairs = held_out_pairs(cells)
    mine = [cell for cell in cells if cell.label == label and cell.pair in pairs]
    if not mine:
        return {}
    shares = np.mean([cell.conflict for cell in mine], axis=0)
    return {int(start): float(share) for start, share in zip(mine[0].starts, shares, strict=True)}


def gain(
    more: Mapping[int, float], less: Mapping[int, float], *, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Ratio of two folders' mean held-out shares, by start, with a 95 % bootstrap interval.

    Starts are drawn anew, each with what both folders have of it: the two are paired where they began alike.
    Raises ChimeraError where the second is zero throughout.
    """
    starts = sorted(set(more) | set(less))
    both = np.array([[part.get(start, np.nan) for start in starts] for part in (more, less)])
    value = np.nanmean(both, axis=1)
    if not value[1]:
        raise ChimeraError("no chimera of the first folder holds on a held-out pair: there is no ratio to it")
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(resamples):
        drawn = both[:, rng.integers(len(starts), size=len(starts))]
        if not np.isnan(drawn).all(axis=1).any() and (means := np.nanmean(drawn, axis=1))[1] > 0:
            ratios.append(means[0] / means[1])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {"value": float(value[0] / value[1]), "n": len(set(more) & set(less)), "ci": (float(low), float(high))}


def key(*parts: str) -> str:
    """A metric's name made of these."""
    return re.sub(r"\W+", "_", "_".join(parts))


def metrics(cells: Sequence[Cell]) -> dict[str, Any]:
    """The metrics of a recorded run.

    ``LABEL_A_B_rate`` a cell; ``LABEL_held_out_rate``, the mean over the pairs that are held out for every folder,
    named in ``held_out_pairs``, with an interval over starts; and for every folder after the first
    ``LABEL_over_FIRST``, the ratio of those means.
    """
    out: dict[str, Any] = {"held_out_pairs": "; ".join("/".join(pair) for pair in held_out_pairs(cells)) or "none"}
    labels = list(dict.fromkeys(cell.label for cell in cells))
    for cell in cells:
        n = len(cell.conflict)
        out[key(cell.label, *cell.pair, "rate")] = {"value": cell.rate, "n": n, "ci": cell.interval}
    first = held_out(cells, labels[0])
    for label in labels:
        share = held_out(cells, label)
        if len(share) > 1:
            values = list(share.values())
            ci = stats.bootstrap(values, statistic="mean")
            out[key(label, "held_out_rate")] = {"value": float(np.mean(values)), "n": len(share), "ci": ci}
            if label != labels[0] and any(first.values()):
                out[key(label, "over", labels[0])] = gain(share, first)
    return out


def as_rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Rows for a table, one a cell."""
    return [
        {
            "searched": cell.label,
            "tested on": " / ".join(cell.pair),
            "chimeras": len(cell.conflict),
            "still a chimera": cell.rate,
            "interval": f"{cell.interval.low:.1%} to {cell.interval.high:.1%}",
            "held out": "yes" if cell.held_out else f"no: {', '.join(cell.shares)}",
        }
        for cell in cells
    ]


def as_text(cells: Sequence[Cell]) -> str:
    """A table for a terminal."""
    lines = [f"{'searched':<16} {'tested on':<32} {'n':>4}  still a chimera (95 % interval)  held out"]
    for row in as_rows(cells):
        lines.append(
            f"{row['searched']:<16} {row['tested on']:<32} {row['chimeras']:>4}"
            f"  {row['still a chimera']:6.1%} ({row['interval']})".ljust(90)
            + row["held out"]
        )
    for label in dict.fromkeys(cell.label for cell in cells):
        share = held_out(cells, label)
        if len(share) > 1:
            values = list(share.values())
            low, high = stats.bootstrap(values, statistic="mean")
            lines.append(f"{label}: {np.mean(values):.1%} of held-out pairs, on average ({low:.1%} to {high:.1%})")
    if few := {cell.label for cell in cells if len(cell.conflict) < ENOUGH}:
        lines.append(f"fewer than {ENOUGH} chimeras: {', '.join(sorted(few))}")
    return "\n".join(lines)
