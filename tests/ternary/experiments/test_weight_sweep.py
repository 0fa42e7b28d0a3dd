"""The sweep over thresholds on trained weights, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chimera_lib.ternary.experiments import weight_sweep


def test_a_point_counts_and_measures() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.5, 3.5]])  # mean magnitude 2
    here = weight_sweep.point(weight, 0.6)
    assert here.zero_ratio == 0.5 and here.effective_bits == pytest.approx(1.5)
    square = 1 + 9 + 0.25 + 12.25
    assert here.error_gamma == pytest.approx((1 + 1 + 0.25 + 2.25) / square)
    assert here.scale == pytest.approx(3.25 / 2)
    assert here.error_optimal == pytest.approx((1 + 0.0625 + 0.25 + 0.0625) / square)
    with pytest.raises(ValueError, match="alpha_override=-1"):
        weight_sweep.point(weight, -1)


def test_the_trained_network_is_the_projects_resnet20() -> None:
    weights = weight_sweep.trained_resnet20()
    assert len(weights) == 20 and not any(name.startswith("stem") for name in weights)
    assert sum(w.numel() for w in weights.values()) == 269_824
    curves = weight_sweep.sweep(dict(list(weights.items())[:2]), np.array([0.5, 0.7]))
    assert [[p.alpha for p in points] for points in curves.values()] == [[0.5, 0.7]] * 2
    for points in curves.values():
        assert points[0].zero_ratio < points[1].zero_ratio
        assert all(p.error_optimal < p.error_gamma for p in points)


def test_kurtosis_and_units() -> None:
    generator = torch.Generator().manual_seed(0)
    assert weight_sweep.excess_kurtosis(torch.randn(200_000, generator=generator)) == pytest.approx(0, abs=0.05)
    laplace = torch.distributions.Laplace(1.0, 2.0)
    torch.manual_seed(0)
    assert weight_sweep.excess_kurtosis(laplace.sample((200_000,))) == pytest.approx(3, abs=0.3)
    both = weight_sweep.in_gammas([torch.tensor([2.0, -4.0]), torch.tensor([[10.0]])])
    assert both.tolist() == pytest.approx([2 / 3, -4 / 3, 1.0])
