"""Shares of the codes and their entropy, by layer and over a network."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.quantizers.statistics import MOST_BITS, Statistics, by_layer, count, pooled, unweighted


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60))
def test_shares_and_entropy(codes: list[int]) -> None:
    ours = count(torch.tensor(codes, dtype=torch.int8))
    shares = [codes.count(code) / len(codes) for code in (0, 1, -1)]
    assert [ours.zero_ratio, ours.plus_ratio, ours.minus_ratio] == shares
    assert ours.effective_bits == pytest.approx(stats.entropy(shares, base=2), abs=1e-12)
    assert 0 <= ours.effective_bits <= MOST_BITS + 1e-12
    assert ours.numel == len(codes)


def test_ends() -> None:
    assert Statistics(5, 5, 5).effective_bits == pytest.approx(math.log2(3))
    assert Statistics(0, 1, 1).effective_bits == 1
    assert Statistics(7, 0, 0).effective_bits == 0
    assert "entropy, not storage" in (Statistics.effective_bits.__doc__ or "")


def test_a_network_counts_every_weight_once() -> None:
    model = nn.Sequential(BitLinear(4, 100, alpha_override=0.0), nn.ReLU(), BitLinear(100, 1, alpha_override=9.0))
    layers = by_layer(model)
    assert {name: (s.zero_ratio, s.numel) for name, s in layers.items()} == {"0": (0, 400), "2": (1, 100)}
    assert pooled(layers.values()).zero_ratio == 0.2
    assert unweighted(layers.values())["zero_ratio"] == 0.5
    assert pooled(layers.values()).record().keys() == {"zero_ratio", "plus_ratio", "minus_ratio", "effective_bits"}


def test_no_layers() -> None:
    assert by_layer(nn.Linear(2, 2)) == {}
    assert math.isnan(pooled([]).zero_ratio)
    assert math.isnan(unweighted([])["zero_ratio"])
