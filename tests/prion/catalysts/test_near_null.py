"""The corrected catalyst: its derivative, that rho falls, and what it keeps fixed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion import catalysts
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import near_null, protocol, rho

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM

LENGTH = 16


@pytest.fixture
def measure(model: GPTNeoXForCausalLM, text: torch.Tensor) -> rho.Rho:
    return rho.scale(model, None, text, length=LENGTH, rows=2)


def test_random_tokens_are_the_unit(measure: rho.Rho, model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    drawn = catalysts.make("random_tokens", model, None, text, length=LENGTH, seed=3)
    values = torch.tensor([measure(drawn.batch(step)) for step in range(30)])
    assert float(values.mean()) == pytest.approx(1, abs=0.3)


def test_rho_falls_far(measure: rho.Rho, model: GPTNeoXForCausalLM) -> None:
    labels, start = near_null.start(model, None, length=LENGTH, seed=0)
    done = near_null.optimise(measure, labels, start, steps=80, snap_every=40)
    assert len(done.course) == 81
    assert done.course[0] == pytest.approx(measure(Batch(labels, start)), rel=1e-4)
    assert done.course[-1] == pytest.approx(measure(done.soft), rel=1e-4)
    assert done.course[-1] < 0.25 * done.course[0]
    assert set(done.snapped) == {0, 40, 80}
    assert done.snapped[80] > done.course[-1]
    assert torch.equal(done.soft.labels, labels)
    assert done.soft.embeddings is not None
    assert torch.allclose(done.soft.embeddings.norm(dim=-1), start.norm(dim=-1), rtol=1e-5)


def test_the_sharp_end_is_the_other_one(measure: rho.Rho, model: GPTNeoXForCausalLM) -> None:
    labels, start = near_null.start(model, None, length=LENGTH, seed=0)
    assert near_null.optimise(measure, labels, start, steps=20, end="sharp").course[-1] > 1.5 * measure(
        Batch(labels, start)
    )


def test_first_step_goes_down_the_true_derivative(measure: rho.Rho, model: GPTNeoXForCausalLM) -> None:
    """Adam's first step is the rate times minus the sign of the derivative, which differences give too."""
    labels, start = near_null.start(model, None, length=LENGTH, seed=1)
    moved = near_null.optimise(measure, labels, start, steps=1, rate=1e-4).soft.embeddings
    assert moved is not None
    step = 3e-3
    agreed = 0
    places = [(t, c) for t in range(1, 9) for c in range(0, 8, 4)]
    for t, c in places:
        ends = []
        for sign in (1, -1):
            bent = start.clone()
            bent[0, t, c] += sign * step
            ends.append(measure(Batch(labels, bent)))
        agreed += (ends[0] < ends[1]) == bool(moved[0, t, c] > start[0, t, c])
    assert agreed >= len(places) - 2  # scaling back to the norm can turn the sign of a small change


def test_facts_and_the_hard_version(model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    options = {"length": LENGTH, "steps": 10, "rows": 2}
    soft = catalysts.make("eigen_prion", model, None, text, **options)
    hard = catalysts.make("eigen_prion_hard", model, None, text, **options)
    assert soft.facts["rho"] == soft.facts["rho_soft"] == hard.facts["rho_soft"]
    assert hard.facts["rho"] == soft.facts["rho_hard"]
    assert soft.facts["rho"] < soft.facts["rho_start"]
    assert hard.batch(0).embeddings is None
    shown = soft.batch(0).embeddings
    assert shown is not None
    distances = torch.cdist(shown[0], protocol.embeddings(model))
    assert torch.equal(distances.argmin(1), hard.batch(0).labels[0])


def test_refuses(measure: rho.Rho, model: GPTNeoXForCausalLM, text: torch.Tensor) -> None:
    labels, start = near_null.start(model, None, length=LENGTH)
    with pytest.raises(UnknownName, match="'flatt'"):
        near_null.optimise(measure, labels, start, end="flatt")  # type: ignore[arg-type]
    with pytest.raises(ChimeraError, match="-1 steps"):
        near_null.optimise(measure, labels, start, steps=-1)
    with pytest.raises(ChimeraError, match="0 rows"):
        rho.scale(model, None, text, length=LENGTH, rows=0)


def test_a_catalyst_is_fitted_to_the_type_of_another_model(model: GPTNeoXForCausalLM) -> None:
    vectors = torch.randn(1, 4, model.config.hidden_size)
    soft = protocol.repeated("eigen_prion", Batch(torch.zeros(1, 4, dtype=torch.long), vectors), {"rho": 0.1})
    assert protocol.fitted(soft, model) is soft
    fitted = protocol.fitted(soft, copy.deepcopy(model).bfloat16())
    shown = fitted.batch(0).embeddings
    assert shown is not None
    assert torch.equal(shown, vectors.bfloat16())
    assert fitted.facts == soft.facts
