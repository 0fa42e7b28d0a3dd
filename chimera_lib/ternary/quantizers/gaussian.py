"""What a threshold does to Gaussian weights, in closed form.

For W ~ N(0, 1), gamma = E|W| = sqrt(2/pi) and t = alpha gamma. The share of ones and minus ones is p = 2 (1 - Phi(t)),
that of zeros 1 - p, and E[|W|; |W| > t] = 2 phi(t), with phi and Phi the normal density and distribution. A scale s
then leaves the relative squared error E(W - s q)^2 / E W^2 = 1 - 4 s phi(t) + s^2 p, which is least at s = 2 phi(t) / p
(Li & Liu 2016, Ternary Weight Networks, eq. 4 and 5), where it is 1 - 4 phi(t)^2 / p.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from chimera_lib.ternary.quantizers.gamma import SCALES
from chimera_lib.ternary.quantizers.threshold import checked

GAMMA = math.sqrt(2 / math.pi)  # of a standard normal weight
_NORMAL = NormalDist()


def zero_ratio(alpha: float) -> float:
    """Share of zeros at a threshold of ``alpha`` gamma. Raises ValueError for a negative or non-finite alpha."""
    return 2 * _NORMAL.cdf(checked("alpha", alpha) * GAMMA) - 1


def alpha_for(ratio: float) -> float:
    """The alpha at which ``ratio`` of the weights are zero, 0 <= ratio < 1: the inverse of `zero_ratio`."""
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio={ratio}: expected a share of zeros, 0 <= ratio < 1")
    return _NORMAL.inv_cdf((1 + ratio) / 2) / GAMMA


def optimal_scale(alpha: float) -> float:
    """The scale of least squared error, in units of gamma."""
    t = checked("alpha", alpha) * GAMMA
    return 2 * _NORMAL.pdf(t) / _kept(t) / GAMMA


def relative_error(alpha: float, scale: str = "gamma") -> float:
    """E(W - s q)^2 / E W^2 with s = gamma or the optimal one. Raises ValueError for another ``scale``.

    >>> f"{relative_error(.7):.4f} {relative_error(.7, 'optimal'):.4f}"
    '0.2776 0.1916'
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}: expected 'gamma' (as published) or 'optimal' (least squares)")
    t = checked("alpha", alpha) * GAMMA
    s = GAMMA if scale == "gamma" else optimal_scale(alpha) * GAMMA
    return 1 - 4 * s * _NORMAL.pdf(t) + s * s * _kept(t)


def best_alpha(scale: str = "optimal") -> float:
    """The alpha of least `relative_error`, to 1e-7, by a search between 0 and 2.

    >>> f"{best_alpha():.3f} {relative_error(best_alpha(), 'optimal'):.4f}"
    '0.767 0.1902'
    """
    from scipy.optimize import minimize_scalar

    return float(minimize_scalar(relative_error, (0, 2), (0, 2), (scale,), "bounded", options={"xatol": 1e-9}).x)


def _kept(t: float) -> float:
    return math.erfc(t / math.sqrt(2))  # 2 (1 - Phi(t)), exact in the tail too
