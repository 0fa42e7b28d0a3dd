"""The digits: real, split once and for all."""

from __future__ import annotations

import torch

from chimera_lib.ternary.experiments import digits


def test_parts_are_disjoint_complete_and_always_the_same() -> None:
    parts = digits.load()
    assert {name: len(part.y) for name, part in parts.items()} == digits.SIZES
    every = torch.cat([part.x for part in parts.values()])
    assert every.shape == (1797, digits.PIXELS) and every.min() == 0 and every.max() == 1
    assert len({bytes(row.numpy()) for row in every}) == 1797, "no picture twice"
    for part in parts.values():
        assert part.y.bincount(minlength=digits.CLASSES).min() > 10
    again = digits.load()
    assert all(
        torch.equal(part.x, again[name].x) and torch.equal(part.y, again[name].y) for name, part in parts.items()
    )
