"""The closed form on Gaussian weights: against drawn weights, and that its minima are minima."""

from __future__ import annotations

import math

import pytest
import torch

from chimera_lib.ternary.experiments.weight_sweep import point
from chimera_lib.ternary.quantizers import gaussian

DRAWN = torch.randn(400_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.5])
def test_against_drawn_weights(alpha: float) -> None:
    here = point(DRAWN, alpha)
    assert gaussian.zero_ratio(alpha) == pytest.approx(here.zero_ratio, abs=3e-3)
    assert gaussian.relative_error(alpha) == pytest.approx(here.error_gamma, abs=3e-3)
    assert gaussian.relative_error(alpha, "optimal") == pytest.approx(here.error_optimal, abs=3e-3)
    assert gaussian.optimal_scale(alpha) == pytest.approx(here.scale, abs=1e-2)


def test_the_figures_of_the_threshold_of_point_seven() -> None:
    assert gaussian.relative_error(0.7) == pytest.approx(0.2776, abs=5e-5)
    assert gaussian.relative_error(0.7, "optimal") == pytest.approx(0.1916, abs=5e-5)
    assert gaussian.best_alpha() == pytest.approx(0.767, abs=5e-4)
    assert gaussian.relative_error(gaussian.best_alpha(), "optimal") == pytest.approx(0.1902, abs=5e-5)


def test_with_gamma_for_a_scale_nothing_beats_rounding() -> None:
    assert gaussian.best_alpha("gamma") == pytest.approx(0.5, abs=1e-6)
    for alpha in (0.45, 0.55):
        assert gaussian.relative_error(alpha) > gaussian.relative_error(0.5)


def test_inverse_and_ends() -> None:
    for ratio in (0.0, 0.1, 0.63038, 0.999):
        assert gaussian.zero_ratio(gaussian.alpha_for(ratio)) == pytest.approx(ratio, abs=1e-12)
    assert gaussian.relative_error(0.0) == gaussian.relative_error(0.0, "optimal") == pytest.approx(1 - 2 / math.pi)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"alpha=-0\.1"):
        gaussian.zero_ratio(-0.1)
    with pytest.raises(ValueError, match="alpha=nan"):
        gaussian.relative_error(math.nan)
    with pytest.raises(ValueError, match="scale='twn': expected 'gamma'"):
        gaussian.relative_error(0.7, "twn")
    for ratio in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="expected a share of zeros"):
            gaussian.alpha_for(ratio)
