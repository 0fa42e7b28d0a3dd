"""Strategies side by side: the same starts, the same budget, the same oracle, and every find verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import recorded, stats
from chimera_lib.images import campaign
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.png import decode, png_bytes
from chimera_lib.images.search import strategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.network import Network
    from chimera_lib.images.search.protocol import Budget

Summary = dict[str, Any]
VERIFY_ROUNDS = 2
LOST = -1  # in the place of a class, of a backend that died before a picture was found: never verified


def compare(
    model: nn.Module,
    network: Network,
    images: np.ndarray,
    starts: Sequence[int],
    *,
    strategies: Sequence[str],
    backends: Sequence[str],
    budget: Budget,
    seeds: Sequence[int],
    output: Path,
    progress: bool = True,
) -> dict[str, Summary]:
    """Run each strategy from ``images[starts]``, uint8 (N, H, W, 3), once a seed; a summary for each by name.

    Every chimera found is shown again to freshly started backends, twice; ``verified`` counts those of which each
    backend says both times what it said in the search. Rows of all seeds are summed up together;
    ``by_seed`` holds each seed's rate and median of evaluations.
    """
    for name in strategies:
        strategy(name)  # a name misspelt is refused before the first search
    summaries = {}
    for name in strategies:
        rows: list[campaign.Row] = []
        found: list[np.ndarray] = []
        by_seed: dict[str, list[float]] = {"rate": [], "evaluations": []}
        with Oracle(network, backends) as oracle:
            for seed in seeds:
                more, images_found = campaign.run(
                    model,
                    images,
                    starts,
                    oracle,
                    name=name,
                    budget=budget,
                    seed=seed,
                    output=output / name if len(seeds) == 1 else output / name / f"seed-{seed}",
                    progress=progress,
                )
                rows, found = rows + more, found + images_found
                by_seed["rate"].append(float(np.mean([row.found for row in more])))
                by_seed["evaluations"].append(float(np.median([row.evaluations for row in more])))
            backend_facts = oracle.info()
        said = [[row.predictions.get(backend, LOST) for backend in backends] for row in rows if row.predictions]
        holds = iter(verified(network, backends, found, said))
        verdicts = [row.found and bool(next(holds)) for row in rows]
        summaries[name] = campaign.summary(rows) | (by_start(rows) if len(seeds) > 1 else {})
        summaries[name]["by_seed"] = by_seed
        summaries[name]["backends"] = backend_facts
        summaries[name]["verified"] = sum(verdicts)
        summaries[name]["verified_ci"] = rate_interval(rows, verdicts)
    return summaries


def rate_interval(rows: Sequence[campaign.Row], met: Sequence[bool]) -> stats.Interval:
    """Exact 95 % interval of the share of ``rows`` that ``met`` says.

    Runs from one start are not independent: a start counts as one trial, however many seeds it was given, and the
    interval is wide if anything.
    """
    by: dict[int, list[bool]] = {}
    for row, yes in zip(rows, met, strict=True):
        by.setdefault(row.start, []).append(yes)
    return stats.exact(sum(float(np.mean(each)) for each in by.values()), len(by))


def by_start(rows: Sequence[campaign.Row]) -> Summary:
    """What replaces parts of a summary where rows are not independent: several seeds a start, each start one unit.

    Medians are of the starts' own medians, and drawn anew by start.
    """
    starts: dict[int, list[campaign.Row]] = {}
    for row in rows:
        starts.setdefault(row.start, []).append(row)
    out: Summary = {"rate_ci": rate_interval(rows, [row.found for row in rows])}
    for quantity in ("evaluations", "oracle_calls", "cpu_seconds", "linf", "l0"):
        each = [[getattr(r, quantity) for r in some if getattr(r, quantity) is not None] for some in starts.values()]
        medians = [float(np.median(values)) for values in each if values]
        out[f"median_{quantity}"] = float(np.median(medians)) if medians else None
        out[f"median_{quantity}_ci"] = stats.bootstrap(medians) if len(medians) > 1 else None
    return out


def verified(
    network: Network,
    backends: Sequence[str],
    found: Sequence[np.ndarray],
    said: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """Which images, uint8 (H, W, 3) each, are chimeras in every one of two rounds of fresh processes: bool (N,).

    They are shown as anybody else would see them: written as PNG and read back. With ``said``, classes (N, backends),
    each backend has to name that class.
    """
    if not found:
        return np.zeros(0, dtype=bool)
    stack = np.stack([decode(png_bytes(image), "chimera") for image in found])
    holds = np.ones(len(stack), dtype=bool)
    for _ in range(VERIFY_ROUNDS):
        with Oracle(network, backends) as fresh:
            verdict = fresh(stack)
        holds &= verdict.conflict if said is None else (verdict.predictions == np.array(said).T).all(axis=0)
    return holds


def as_rows(summaries: Mapping[str, Summary]) -> list[dict[str, object]]:
    """Rows for a table: what each strategy found, and its median costs and change."""
    return [
        {
            "strategy": name.replace("_", " "),
            "starts": one["n"],
            "found": one["found"],
            "verified": one["verified"],
            "evaluations": one["median_evaluations"],
            "oracle calls": one["median_oracle_calls"],
            "CPU seconds": one["median_cpu_seconds"],
            "largest change": one["median_linf"],
        }
        for name, one in summaries.items()
    ]


def as_text(summaries: Mapping[str, Summary]) -> str:
    """A table for a terminal."""
    width = max(len(name) for name in summaries)
    lines = [f"{'strategy':<{width}}  found/n    rate (95 % interval)   verified  evaluations  CPU s  Linf  (medians)"]
    for name, one in summaries.items():
        low, high = one["rate_ci"]
        far = "-" if one["median_linf"] is None else f"{one['median_linf']:.0f}"
        lines.append(
            f"{name:<{width}}  {one['found']:>4}/{one['n']:<4}  {one['rate']:6.1%} ({low:.1%} to {high:.1%})"
            f"  {one['verified']:>8}  {one['median_evaluations']:>11.0f}  {one['median_cpu_seconds']:5.2f}  {far:>4}"
        )
    return "\n".join(lines)


def write_record(path: Path, summaries: Mapping[str, Summary]) -> None:
    """Write the summaries to ``path`` for the table of figures, one metric a strategy and quantity."""
    metrics: dict[str, Any] = {}
    for name, one in summaries.items():
        n = one["n"]
        metrics[f"{name}_rate"] = {"value": one["rate"], "n": n, "ci": one["rate_ci"]}
        metrics[f"{name}_verified_rate"] = {
            "value": one["verified"] / n,
            "n": n,
            "ci": one["verified_ci"],
        }
        for quantity, values in one.get("by_seed", {}).items():
            if len(values) > 1:
                metrics[f"{name}_{quantity}_by_seed"] = {"value": float(np.mean(values)), "n": len(values)}
                if len(set(values)) > 1:  # equal values would get an interval of no width
                    low, high = stats.student(values)
                    bounds = (max(low, 0.0), min(high, 1.0)) if quantity == "rate" else (low, high)
                    metrics[f"{name}_{quantity}_by_seed"]["ci"] = bounds
        for quantity in ("evaluations", "oracle_calls", "cpu_seconds"):
            metrics[f"{name}_{quantity}"] = {
                "value": one[f"median_{quantity}"], "n": n, "ci": one[f"median_{quantity}_ci"]
            }  # fmt: skip
        for quantity in ("linf", "l0"):
            if one[f"median_{quantity}"] is not None:
                metrics[f"{name}_{quantity}"] = {
                    "value": one[f"median_{quantity}"], "n": one["found"], "ci": one[f"median_{quantity}_ci"]
                }  # fmt: skip
    backends = next(iter(summaries.values()))["backends"]
    recorded.write(path, recorded.command_line(), metrics, backends)
