"""What the tests of this folder share: the tiny trained model, a batch, and its dense Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.prion.batches import Batch
from chimera_lib.prion.hessian.product import HessianProduct
from tests.prion.hessian import tiny

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM


@pytest.fixture(scope="session")
def model() -> GPTNeoXForCausalLM:
    return tiny.model()


@pytest.fixture(scope="session")
def batch() -> Batch:
    return Batch(tiny.text(6, seed=999))


@pytest.fixture
def product(model: GPTNeoXForCausalLM, batch: Batch) -> HessianProduct:
    return HessianProduct(model, batch, keep_graph=True)


@pytest.fixture(scope="session")
def dense(model: GPTNeoXForCausalLM, batch: Batch) -> torch.Tensor:
    """H, shape (P, P), float64, from twice differentiating a function of all weights, not from HessianProduct."""
    from chimera_lib.prion import batches

    parameters = dict(model.named_parameters())
    names, sizes = list(parameters), [one.numel() for one in parameters.values()]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        pieces = vector.split(sizes)
        weights = {name: piece.view_as(parameters[name]) for name, piece in zip(names, pieces, strict=True)}

        class Called:
            def __call__(self, **inputs: object) -> object:
                return torch.func.functional_call(model, weights, kwargs=inputs)

        return batches.loss(Called(), batch)  # type: ignore[arg-type]

    start = torch.cat([one.detach().reshape(-1) for one in parameters.values()])
    with torch.random.fork_rng(devices=[]):
        return torch.autograd.functional.hessian(loss, start).double()
