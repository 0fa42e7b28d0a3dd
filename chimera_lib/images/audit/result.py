"""What an audit has measured, and what follows from it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.images.analysis.rate import Extrapolated, extrapolate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.images.network import Network

NONE = -1  # stands for the class where a backend gave no answer
FACTORS = (1, 10, 100)


@dataclass(frozen=True)
class Made:
    """What a search from one of the images came to: whether a conflict can be made, and by how large a change.

    Attributes:
        name: the image that it started from.
        image: the chimera, uint8 (H, W, 3); None where the budget ended first.
        predictions: class by backend.
        linf, l0: largest change of a value, in 8-bit levels, and values changed.
        evaluations, oracle_calls: what it cost.
        confirmed: whether freshly started backends disagree on it too.
    """

    name: str
    image: np.ndarray | None
    evaluations: int
    oracle_calls: int
    predictions: dict[str, int] = field(default_factory=dict)
    linf: int | None = None
    l0: int | None = None
    confirmed: bool = False


@dataclass(frozen=True)
class Audit:
    """N images on B backends. Gaps and margins are in logit units.

    Attributes:
        network: what was audited.
        names: (N,) of the images.
        backends: name -> what it says it is, in the order of the rows below.
        missing: name -> why this machine does not have it.
        lost: name -> how it ended midway.
        predictions: int64 (B, N), each backend's class, ``NONE`` where it gave no answer.
        gaps: float64 (B, N), each backend's logit of class ``top[0]`` minus that of ``top[1]``; NaN for no answer.
        top: int64 (2, N), the two leading classes of the logits' mean over the backends.
        bits: backend -> hashes of its logits, chunk by chunk.
        duplicates: images that are byte for byte an earlier one.
        confirmed: names of the conflicting images on which freshly started backends disagree too.
        made: what searches came to.
    """

    network: Network
    names: Sequence[str]
    backends: dict[str, dict[str, Any]]
    missing: dict[str, str]
    lost: dict[str, str]
    predictions: np.ndarray
    gaps: np.ndarray
    top: np.ndarray
    bits: dict[str, tuple[str, ...]]
    duplicates: int = 0
    confirmed: frozenset[str] = frozenset()
    made: tuple[Made, ...] = ()

    @property
    def conflict(self) -> np.ndarray:
        """bool (N,): whether two of the backends that answered predict different classes."""
        low = np.where(self.predictions == NONE, np.iinfo(np.int64).max, self.predictions).min(0)
        return low != self.predictions.max(0)

    @property
    def margins(self) -> np.ndarray:
        """float64 (N,): how far the leading class lies before the second, in the mean over the backends."""
        return np.nanmean(self.gaps, 0)

    @property
    def spreads(self) -> np.ndarray:
        """float64 (N,): largest minus smallest gap over the backends. A conflict of the two has zero within."""
        return np.nanmax(self.gaps, 0) - np.nanmin(self.gaps, 0)

    @property
    def noise(self) -> float:
        """The 99th percentile of the spreads: on all but one image in a hundred, backends differ by less."""
        return float(np.quantile(self.spreads, 0.99))

    @property
    def bit_classes(self) -> dict[str, int]:
        """Backend -> number of its class of identical logits on all the images, from 1; 0 for one that was lost."""
        numbers: dict[tuple[str, ...], int] = {}
        return {
            name: 0 if name in self.lost else numbers.setdefault(self.bits[name], len(numbers) + 1)
            for name in self.backends
        }

    @property
    def interval(self) -> stats.Interval:
        """Exact 95 % interval of the share of conflicts, for images drawn as these were."""
        return stats.exact(int(self.conflict.sum()), len(self.names))

    @property
    def extrapolated(self) -> Extrapolated | None:
        """The share of conflicts that margins and noise lead one to expect; see ``rate``."""
        return extrapolate(self.margins, self.spreads)

    def pairwise(self) -> np.ndarray:
        """|gap difference| of every two backends of different bits on every image, flat; empty where none differ."""
        classes = self.bit_classes
        rows = list(range(len(self.backends)))
        names = list(self.backends)
        pairs = [(i, j) for i, j in itertools.combinations(rows, 2) if not 0 < classes[names[i]] == classes[names[j]]]
        flat = np.concatenate([np.abs(self.gaps[i] - self.gaps[j]) for i, j in pairs] or [np.empty(0)])
        return flat[np.isfinite(flat)]

    def within(self) -> dict[int, int]:
        """Factor -> images whose margin is below that many times the noise."""
        return {factor: int((self.margins < factor * self.noise).sum()) for factor in FACTORS}

    def nearest(self, count: int) -> list[int]:
        """Numbers of the images of smallest margin among those without a conflict."""
        order = np.argsort(self.margins, kind="stable")
        return [int(i) for i in order if not self.conflict[i]][:count]

    def said(self, number: int) -> dict[str, int]:
        """Backend -> class of one image, for the backends that answered."""
        each = zip(self.backends, self.predictions[:, number], strict=True)
        return {name: int(said) for name, said in each if said != NONE}
