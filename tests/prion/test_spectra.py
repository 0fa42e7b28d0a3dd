"""Ranks of clouds whose rank is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera_lib.prion import spectra


def test_equal_directions_all_count() -> None:
    values = torch.ones(7, dtype=torch.float64)
    assert spectra.effective_rank(values) == pytest.approx(7)
    assert spectra.participation_ratio(values) == pytest.approx(7)
    assert spectra.stable_rank(values) == pytest.approx(7)
    assert spectra.spectral_gap(values) == pytest.approx(1)


def test_one_direction_is_rank_one() -> None:
    values = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)
    assert spectra.effective_rank(values) == pytest.approx(1)
    assert spectra.published_rank(values) == pytest.approx(1)
    assert spectra.spectral_gap(values) == math.inf


def test_the_published_rank_drops_small_values_without_making_up_for_them() -> None:
    values = torch.tensor([0.991, 0.009], dtype=torch.float64)
    assert spectra.published_rank(values) == pytest.approx(math.exp(-0.991 * math.log(0.991)))
    assert spectra.effective_rank(values) > spectra.published_rank(values)


def test_centring_takes_a_common_offset_away() -> None:
    states = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    moved = states + 100
    torch.testing.assert_close(spectra.singular_values(moved), spectra.singular_values(states), rtol=1e-4, atol=1e-3)
    assert spectra.effective_rank(spectra.singular_values(moved, centred=False)) < 1.3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), st.floats(1e-3, 1e3))
def test_ranks_lie_between_one_and_the_number_and_ignore_scale(raw: list[float], scale: float) -> None:
    values = torch.tensor(sorted(raw, reverse=True), dtype=torch.float64)
    for rank in (spectra.effective_rank, spectra.participation_ratio, spectra.stable_rank):
        assert 1 - 1e-9 <= rank(values) <= len(values) + 1e-9
        assert rank(values * scale) == pytest.approx(rank(values), rel=1e-6)
