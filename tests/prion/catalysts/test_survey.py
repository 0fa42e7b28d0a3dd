"""rho over seeds: the soft catalyst below its controls, each kind with as many values as seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimera_lib.prion.catalysts import survey

if TYPE_CHECKING:
    import torch
    from transformers import GPTNeoXForCausalLM


def test_survey(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    done: list[int] = []
    found = survey.survey(
        model,
        None,
        text,
        seeds=(1, 2),
        compared=("random_tokens", "text_fixed"),
        length=16,
        rows=2,
        steps=15,
        on_seed=done.append,
    )
    assert done == [1, 2]
    assert [row.kind for row in found.rows] == ["eigen_prion", "eigen_prion_hard", "random_tokens", "text_fixed"]
    assert all(row.n == len(row.curvatures) == 2 for row in found.rows)
    assert max(found["eigen_prion"].values) < min(found["random_tokens"].values)
    row = found["eigen_prion"]
    assert row.curvatures[0] == pytest.approx(row.values[0] * found.references[0])
    assert row.ci is not None
    assert row.ci.low < row.mean < row.ci.high
    assert row.metric() == {"value": row.mean, "n": 2, "ci": row.ci}
