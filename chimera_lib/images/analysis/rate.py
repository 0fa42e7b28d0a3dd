"""How often two backends would disagree on images like these, where none of the images at hand shows it.

Let g be an image's margin as exact arithmetic would have it, with the sign that says which of two classes leads,
and e_b what backend b adds to it. Backends disagree where zero lies between the smallest and the largest g + e_b: an
interval of g as wide as the spread s = max e_b - min e_b. Near zero, margins are so much wider apart than s that
their density is flat there, and the probability is density times width:

    P(conflict) = f(0) * E[s] / 2,

f being the density of |g|, which has both signs' share (hence the half). f(0) comes from the k smallest of N
margins, the k-th of which is m: those below m are a Poisson process of rate N f(0), so 2 N f(0) m is chi-squared with
2k degrees of freedom, which gives the interval.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from chimera_lib.stats import Interval

LEAST = 20  # images below which nothing is extrapolated


class Extrapolated(NamedTuple):
    """An estimated share of images on which some backends disagree.

    Attributes:
        rate: the estimate, in [0, 1].
        interval: 95 %, for the chance of which images were drawn; that the density is flat between the noise and
            the k-th margin, and the spread the same for all, is assumed.
        density: f(0), images per logit unit, as a share of all.
        spread: mean spread of the k images of smallest margin, in logit units.
        k: how many of the smallest margins were used.
    """

    rate: float
    interval: Interval
    density: float
    spread: float
    k: int


def extrapolate(margins: np.ndarray, spreads: np.ndarray) -> Extrapolated | None:
    """The expected share of conflicts from margins (N,) and the backends' spreads (N,) of N different images.

    Uses the ``ceil(sqrt(N))`` smallest margins. None for fewer than ``LEAST`` images, and where the k-th
    margin is zero, so that there is no density to speak of.
    """
    from scipy.stats import chi2

    count = len(margins)
    if count < LEAST:
        return None
    k = math.ceil(math.sqrt(count))
    nearest = np.argsort(margins, kind="stable")[:k]
    largest = float(margins[nearest[-1]])
    if largest <= 0:
        return None
    spread = float(spreads[nearest].mean())
    half = spread / 2
    density = (k - 1) / (count * largest)  # k - 1 of N lie below the k-th: unbiased
    low, high = (float(chi2.ppf(q, 2 * k)) / (2 * count * largest) for q in (0.025, 0.975))
    return Extrapolated(min(1.0, density * half), Interval(low * half, min(1.0, high * half)), density, spread, k)
