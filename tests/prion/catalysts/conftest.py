"""What the tests of this folder share: the tiny trained model and a text for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.prion.hessian import tiny

if TYPE_CHECKING:
    import torch
    from transformers import GPTNeoXForCausalLM


@pytest.fixture(scope="session")
def model() -> GPTNeoXForCausalLM:
    return tiny.model()


@pytest.fixture(scope="session")
def text() -> torch.Tensor:
    return tiny.text(1, seed=5, length=600)[0]
