"""Can one network alone tell a chimera? Three measures of uncertainty, and how well each separates chimeras.

The sources rank their candidates by uncertainty ("smallest gap first") and name a "multi-criteria analysis (gap,
entropy, top-3 spread)"; of the three they write out the gap alone. All are taken of the class probabilities
p of one forward pass, largest first:

    gap         = p1 - p2                 small where two classes tie
    entropy     = -sum p ln p             large where many classes are likely
    top3_spread = p1 - p3                 small where three classes tie

How well a criterion predicts is its area under the ROC curve (AUROC): the chance that it ranks a random chimera
before a random image of a control group. 1/2 is a coin. Chimeras and controls come in pairs from one start image,
and images of different starts differ in more than being a chimera; so the sharper question is how often
the criterion ranks the chimera before its own walk's control. There are four control groups, none of them chimeras,
from easy to hard: the natural images that the walks start from; the first point of each walk within the sources'
own bar, a gap below 0.01; a random one of the candidates that the same walk showed to the backends in vain, all
within reach of their noise; and of these the one whose gap is closest to the chimera's, where one is that
close. The last leaves to the gap only what the pairing leaves, and asks what the other criteria add. A
comparison is over the walks that have a member in both groups.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from chimera_lib import stats
from chimera_lib.images import campaign
from chimera_lib.images.analysis.keeping import Kept, digest, settings
from chimera_lib.images.search import strategy
from chimera_lib.images.search.protocol import as_input, gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.oracle import Oracle
    from chimera_lib.images.search.protocol import Budget, Outcome

BAR = 0.01  # gap of probabilities that the sources aim below
MATCH = 1e-6  # logits: two gaps that close count as the same, being within the backends' noise of each other
CONTROLS = {
    "natural": "natural images",
    "boundary": "gap below 0.01",
    "refused": "refused",
    "matched": "refused, same gap",
}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax float64 (N, classes) of logits (N, classes)."""
    z = logits.astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def gap(logits: np.ndarray) -> np.ndarray:
    """p1 - p2, (N,), of logits (N, classes)."""
    p = np.sort(probabilities(logits), axis=1)
    return p[:, -1] - p[:, -2]


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy (N,) of the class probabilities, nats."""
    p = probabilities(logits)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(1)


def top3_spread(logits: np.ndarray) -> np.ndarray:
    """p1 - p3, (N,), of logits (N, classes >= 3)."""
    p = np.sort(probabilities(logits), axis=1)
    return p[:, -1] - p[:, -3]


# Name -> measure and the sign with which a larger value means "rather a chimera".
CRITERIA: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "gap": (gap, -1),
    "entropy": (entropy, 1),
    "top3_spread": (top3_spread, -1),
}


def groups(
    model: nn.Module, start: np.ndarray, outcome: Outcome, oracle: Oracle, rng: np.random.Generator
) -> dict[str, list[float]]:
    """One walk's members of each group, as the model's logits: ``chimera`` and the controls that the walk has.

    The oracle confirms each: a control that is a chimera, or a chimera that is none, is left out.
    """
    assert outcome.chimera is not None
    refused = [image for image in outcome.candidates if not np.array_equal(image, outcome.chimera)]
    members = {"natural": start, "chimera": outcome.chimera}
    near = [image for image in outcome.points if gap(logits_of(model, image[None]))[0] < BAR]
    if near:
        members["boundary"] = near[0]
    if refused:
        members["refused"] = refused[rng.integers(len(refused))]
        off = np.abs(gaps(logits_of(model, np.stack(refused))) - gaps(logits_of(model, outcome.chimera[None])))
        if off.min() <= MATCH:
            members["matched"] = refused[int(off.argmin())]
    conflict = oracle(np.stack(list(members.values()))).conflict
    z = logits_of(model, np.stack(list(members.values())))
    return {name: [float(v) for v in z[i]] for i, name in enumerate(members) if conflict[i] == (name == "chimera")}


def logits_of(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """The model's float32 logits (N, classes) of images uint8 (N, H, W, 3), each alone."""
    with torch.no_grad():
        return np.concatenate([model(as_input(image[None])).numpy() for image in images])


def measure(
    model: nn.Module,
    images: np.ndarray,
    starts: Sequence[int],
    oracle: Oracle,
    *,
    budget: Budget,
    seed: int = 0,
    output: Path | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Walk from each of ``images[starts]``, uint8 (N, H, W, 3), and keep the logits of each group's member.

    A row a start: ``start``, ``image`` (a digest) and ``logits``, group -> (classes,), empty where the walk found
    nothing. With ``output``, rows are kept and taken from there next time.
    """
    from tqdm.auto import tqdm

    spent = [budget.evaluations, budget.oracle_calls]
    what = {"seed": seed, "budget": spent, "groups": list(CONTROLS)}
    kept = Kept(output, settings(oracle, code=campaign.sources("lattice"), **what)) if output else None
    done = {(row["start"], row["image"]): row for row in kept.rows} if kept else {}
    rows = []
    pause = 0.1 if sys.stderr.isatty() else 20.0
    for start in tqdm(starts, desc="walks", disable=not progress, mininterval=pause):
        mine = int(start), digest(images[start])
        if mine in done:
            rows.append(done[mine])
            continue
        outcome = strategy("lattice")(model, images[start], oracle, budget, seed * 1_000_003 + start)
        rng = np.random.default_rng([seed, start])
        members = groups(model, images[start], outcome, oracle, rng) if outcome.chimera is not None else {}
        rows.append({"start": mine[0], "image": mine[1], "logits": members})
        if kept:
            kept.add(rows[-1:])
    return rows


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a random positive (P,) scores above a random negative (N,), a tie counting one half."""
    from sklearn.metrics import roc_auc_score

    labels = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))])
    return round(float(roc_auc_score(labels, np.concatenate([positive, negative]))), 12)


def interval(positive: np.ndarray, negative: np.ndarray) -> stats.Interval:
    """95 % interval of the AUROC of N positives and N negatives that come in pairs, (N,) each.

    The variance is that of the pairs' placements, each pair being drawn as one (Obuchowski, Biometrics 53, 1997). Where
    all placements are equal there is none to see, and the interval is Clopper and Pearson's for N pairs.
    """
    n = len(positive)
    above = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)  # (N, N)
    placed = above.mean(1) + above.mean(0)  # of each pair, its positive and its negative
    value = auroc(positive, negative)
    if n < 2 or np.ptp(placed) < 1e-12:
        return stats.exact(value * n, n)
    half = 1.959964 * float(placed.std(ddof=1)) / np.sqrt(n)
    return stats.Interval(max(0.0, value - half), min(1.0, value + half))


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a control group and criterion, over the walks that have both members.

    ``auroc`` and its interval ``ci``; ``first``, the share of walks in which the chimera ranks before its own control,
    a tie counting one half, with its exact interval ``first_ci``.
    """
    out = []
    for control, said in CONTROLS.items():
        both = [row["logits"] for row in rows if {"chimera", control} <= set(row["logits"])]
        if not both:
            continue
        chimeras, controls = (np.array([walk[group] for walk in both]) for group in ("chimera", control))
        for name, (criterion, sign) in CRITERIA.items():
            positive, negative = sign * criterion(chimeras), sign * criterion(controls)
            ahead = float((positive > negative).sum() + (positive == negative).sum() / 2)
            out.append(
                {
                    "control": said,
                    "criterion": name,
                    "n": len(both),
                    "auroc": auroc(positive, negative),
                    "ci": interval(positive, negative),
                    "first": ahead / len(both),
                    "first_ci": stats.exact(ahead, len(both)),
                    "median, chimeras": float(np.median(sign * positive)),
                    "median, controls": float(np.median(sign * negative)),
                }
            )
    return out


def metrics(summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of a recorded run: ``GROUP_CRITERION_auroc`` and ``_first``, and the median gaps of both sides."""
    key = {said: name for name, said in CONTROLS.items()}
    out = {}
    for row in summary:
        group = key[row["control"]]
        out[f"{group}_{row['criterion']}_auroc"] = {"value": row["auroc"], "n": row["n"], "ci": row["ci"]}
        out[f"{group}_{row['criterion']}_first"] = {"value": row["first"], "n": row["n"], "ci": row["first_ci"]}
        if row["criterion"] == "gap":
            out[f"{group}_median_gap"] = {"value": row["median, controls"], "n": row["n"]}
            out[f"{group}_chimeras_median_gap"] = {"value": row["median, chimeras"], "n": row["n"]}
    return out


def as_text(summary: Sequence[Mapping[str, Any]]) -> str:
    """A table for a terminal."""
    lines = [f"{'control':<20} {'criterion':<12} {'n':>5}  {'AUROC (95 % interval)':<24}  ranked first in its walk"]
    for row in summary:
        low, high = row["ci"]
        said = f"{row['auroc']:.3f} ({low:.3f} to {high:.3f})"
        low, high = row["first_ci"]
        lines.append(
            f"{row['control']:<20} {row['criterion']:<12} {row['n']:>5}  {said:<24}"
            f"  {row['first']:.1%} ({low:.1%} to {high:.1%})"
        )
    return "\n".join(lines)
