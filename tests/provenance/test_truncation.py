"""Truncation by top-k and top-p against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.truncation import draw, truncate

ROWS = st.lists(st.floats(-5, 5), min_size=2, max_size=20, unique=True)


@given(ROWS, st.integers(0, 25))
def test_top_k_keeps_the_k_largest(row: list[float], k: int) -> None:
    logits = torch.tensor(row, dtype=torch.float64)
    kept = truncate(logits, top_k=k).isfinite()
    expected = sorted(row, reverse=True)[: k or len(row)]
    assert sorted(logits[kept].tolist(), reverse=True) == expected


@given(ROWS, st.floats(0.01, 1))
def test_top_p_keeps_the_fewest_that_reach_p(row: list[float], p: float) -> None:
    logits = torch.tensor(row, dtype=torch.float64)
    chances = logits.softmax(dim=-1)
    kept = truncate(logits, top_p=p).isfinite()
    assert kept[logits.argmax()]
    assert chances[kept].sum() >= p - 1e-9
    if kept.sum() > 1:  # without the least of them, p is not reached
        assert chances[kept].sum() - chances[kept].min() < p + 1e-9
    if not kept.all():
        assert chances[kept].min() >= chances[~kept].max()


def test_top_p_counts_what_top_k_has_left() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert truncate(logits, top_k=2, top_p=0.5).isfinite().tolist() == [[True, False, False, False]]  # .4 / .7 > .5
    assert truncate(logits, top_p=0.5).isfinite().tolist() == [[True, True, False, False]]


def test_the_input_is_left_alone() -> None:
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    truncate(logits, top_k=2, top_p=0.5)
    assert torch.equal(logits, before)


def test_temperature_comes_before_truncation() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(1, 500, 3)
    cold = draw(logits, top_p=0.6, temperature=0.2, generator=torch.Generator().manual_seed(0))
    warm = draw(logits, top_p=0.6, temperature=1.0, generator=torch.Generator().manual_seed(0))
    assert cold.shape == warm.shape == (1, 500)
    assert set(cold.flatten().tolist()) == {0}
    assert set(warm.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("options", [{"top_k": -1}, {"top_p": 1.1}, {"top_p": -0.1}, {"temperature": 0.0}])
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ChimeraError, match=next(iter(options))):
        draw(torch.zeros(1, 1, 4), **options)
