"""How often do natural images conflict? Counted, bounded exactly, and extrapolated from margins and noise.

Zero conflicts among N images bound the rate by the Clopper-Pearson interval, and say no more. What says more is how
densely images lie about the boundary: an image conflicts where its signed top-two gap g is so small that
zero lies between the gaps that two backends compute. For a density f of |g| at zero and a range d
between the smallest and the largest of the backends' gaps,

    rate = f(0) E[d | g near 0] / 2,

since the gap is as likely on either side and both are small against the scale on which f changes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.images.analysis.keeping import Kept, digest, settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chimera_lib.images.oracle import Oracle

CHUNK = 100  # images between two savings
NEAR = 0.1  # logits: margins below count towards the density at zero


@dataclass(frozen=True)
class Prevalence:
    """What N natural images show.

    Attributes:
        n, conflicts: images, and those on which at least two backends differ.
        margins: (N,) smallest top-two gap over the backends, logits.
        noise: (N,) range of the backends' signed gaps between the first backend's top two classes, logits.
        near: margins below ``NEAR``.
        expected: rate by the rule above; expected_ci: 95 % interval from the counts that make f(0), at that mean noise.
    """

    n: int
    conflicts: int
    margins: np.ndarray
    noise: np.ndarray
    near: int
    expected: float
    expected_ci: tuple[float, float]

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


def summarise(rows: Sequence[dict[str, Any]], near: float = NEAR) -> Prevalence:
    """Count, bound and extrapolate; ``near`` is the margin, in logits, below which f is taken to be constant."""
    gaps = np.array([row["gaps"] for row in rows])  # (N, backends)
    margins, noise = np.abs(gaps).min(1), np.ptp(gaps, axis=1)
    count = int((margins < near).sum())
    # The noise of the images close to the boundary is what counts, where there are any.
    factor = float(noise[margins < near].mean() if count else noise.mean()) / 2 / near
    low, high = stats.exact(count, len(rows))
    return Prevalence(
        n=len(rows),
        conflicts=sum(row["conflict"] for row in rows),
        margins=margins,
        noise=noise,
        near=count,
        expected=count / len(rows) * factor,
        expected_ci=(low * factor, high * factor),
    )


def metrics(found: Prevalence, backends: int) -> dict[str, Any]:
    """The metrics of a recorded run."""
    n = found.n
    return {
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
        "near_share": {"value": found.near / n, "n": n, "ci": stats.exact(found.near, n)},
        "expected_rate": {"value": found.expected, "n": n, "ci": found.expected_ci},
        "images_for_one": {
            "value": 1 / found.expected if found.expected else "beyond measure",
            "n": n,
            "ci": (1 / found.expected_ci[1], 1 / found.expected_ci[0]) if found.expected else None,
        },
    }


def as_text(found: Prevalence) -> str:
    """A few lines for a terminal."""
    low, high = found.rate_ci
    return "\n".join(
        [
            f"{found.conflicts} conflicts on {found.n} images; rate between {low:.2g} and {high:.2g} (exact, 95 %)",
            f"smallest margin {found.margins.min():.2g}, median {np.median(found.margins):.2g} logits",
            f"noise of the gap: mean {found.noise.mean():.2g}, largest {found.noise.max():.2g} logits",
            f"expected rate {found.expected:.2g} ({found.expected_ci[0]:.2g} to {found.expected_ci[1]:.2g}):"
            f" {found.near} margins lie below {NEAR} logits",
        ]
    )
