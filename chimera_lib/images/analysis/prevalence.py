"""How often do natural images conflict? Counted, bounded exactly, and extrapolated from margins and noise.

Zero conflicts among N images bound the rate by the Clopper-Pearson interval, and say no more. What says more is how
densely images lie about the boundary, and how far the backends are apart there: see ``rate``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.images.analysis.keeping import Kept, digest, settings
from chimera_lib.images.analysis.rate import Extrapolated, extrapolate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chimera_lib.images.oracle import Oracle

CHUNK = 100  # images between two savings


@dataclass(frozen=True)
class Prevalence:
    """What N natural images show.

    Attributes:
        n, conflicts: images, and those on which at least two backends differ.
        margins: (N,) gap between the first backend's two leading classes, in the mean over the backends, logits.
        noise: (N,) largest minus smallest of the backends' signed gaps between these two, logits.
        expected: the share that margins and noise lead one to expect; None where they are too few to say.
    """

    n: int
    conflicts: int
    margins: np.ndarray
    noise: np.ndarray
    expected: Extrapolated | None

    @property
    def rate_ci(self) -> stats.Interval:
        """Clopper-Pearson interval of the rate."""
        return stats.exact(self.conflicts, self.n)


def measure(
    images: np.ndarray, oracle: Oracle, output: Path, *, chunk: int = CHUNK, progress: bool = True
) -> list[dict[str, Any]]:
    """Ask about all images uint8 (N, H, W, 3); a row an image, kept in ``output`` and taken from there next time.

    A row: ``image`` (its number), ``conflict``, ``predictions`` (backends,), ``gaps`` (backends,): signed gaps between
    the first backend's two leading classes. Raises ChimeraError when a backend is lost, since rows of fewer
    backends would mean something else.
    """
    from tqdm.auto import tqdm

    names = oracle.names
    kept = Kept(output, settings(oracle, images=digest(images)))
    done = {row["image"] for row in kept.rows}
    left = [i for i in range(len(images)) if i not in done]
    pause = 0.1 if sys.stderr.isatty() else 20.0
    with tqdm(total=len(images), initial=len(done), desc="images", disable=not progress, mininterval=pause) as bar:
        for first in range(0, len(left), chunk):
            part = left[first : first + chunk]
            verdict = oracle(images[part])
            if verdict.names != names:
                raise ChimeraError(f"lost {', '.join(set(names) - set(verdict.names))}; run again to go on with it")
            kept.add(describe(part, verdict.logits))
            bar.update(len(part))
    return sorted(kept.rows, key=lambda row: row["image"])


def describe(numbers: Sequence[int], logits: np.ndarray) -> list[dict[str, Any]]:
    """Rows of images with these numbers from logits (backends, N, classes)."""
    z = logits.astype(np.float64)
    first, second = np.argsort(-z[0], axis=1, kind="stable")[:, :2].T
    each = np.arange(len(numbers))
    gaps = z[:, each, first] - z[:, each, second]
    predictions = logits.argmax(-1)
    return [
        {
            "image": int(number),
            "conflict": bool((predictions[:, i] != predictions[0, i]).any()),
            "predictions": predictions[:, i].tolist(),
            "gaps": gaps[:, i].tolist(),
        }
        for i, number in enumerate(numbers)
    ]


def summarise(rows: Sequence[dict[str, Any]]) -> Prevalence:
    """Count, bound and extrapolate."""
    gaps = np.array([row["gaps"] for row in rows])  # (N, backends)
    margins, noise = np.abs(gaps.mean(1)), np.ptp(gaps, axis=1)
    conflicts = sum(row["conflict"] for row in rows)
    return Prevalence(len(rows), conflicts, margins, noise, extrapolate(margins, noise))


def metrics(found: Prevalence, backends: int) -> dict[str, Any]:
    """The metrics of a recorded run."""
    n = found.n
    out: dict[str, Any] = {
        "rate": {"value": found.conflicts / n, "n": n, "ci": found.rate_ci},
        "conflicts": {"value": found.conflicts, "n": n},
        "backends": backends,
        "smallest_margin": {"value": float(found.margins.min()), "n": n},
        "median_margin": {"value": float(np.median(found.margins)), "n": n, "ci": stats.bootstrap(found.margins)},
        "mean_noise": {
            "value": float(found.noise.mean()),
            "n": n,
            "ci": stats.bootstrap(found.noise, statistic="mean"),
        },
        "largest_noise": {"value": float(found.noise.max()), "n": n},
    }
    if found.expected and found.expected.rate:
        rate, (low, high) = found.expected.rate, found.expected.interval
        out["expected_rate"] = {"value": rate, "n": n, "ci": (low, high)}
        out["images_for_one"] = {"value": 1 / rate, "n": n, "ci": (1 / high, 1 / low)}
    return out


def as_text(found: Prevalence) -> str:
    """A few lines for a terminal."""
    low, high = found.rate_ci
    lines = [
        f"{found.conflicts} conflicts on {found.n} images; rate between {low:.2g} and {high:.2g} (exact, 95 %)",
        f"smallest margin {found.margins.min():.2g}, median {np.median(found.margins):.2g} logits",
        f"noise of the gap: mean {found.noise.mean():.2g}, largest {found.noise.max():.2g} logits",
    ]
    if found.expected:
        low, high = found.expected.interval
        of = f"from the {found.expected.k} smallest margins"
        lines.append(f"expected rate {found.expected.rate:.2g} ({low:.2g} to {high:.2g}), {of}")
    return "\n".join(lines)
