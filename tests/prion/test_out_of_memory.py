"""Running out of memory has a name and a way out; other errors keep theirs."""

from __future__ import annotations

import pytest
import torch

from chimera_lib.errors import OutOfMemory
from chimera_lib.prion import out_of_memory


def test_an_absurd_tensor_is_named() -> None:
    message = r"^attacking 2\.8b ran out of memory \(.+\); try a smaller model"
    with pytest.raises(OutOfMemory, match=message) as caught, out_of_memory.named("attacking 2.8b"):
        torch.empty(1 << 58, dtype=torch.uint8)  # more than an address space holds
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_what_a_gpu_or_python_raises_is_named(error: Exception) -> None:
    with pytest.raises(OutOfMemory, match="try patience"), out_of_memory.named("it", "patience"):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught, out_of_memory.named("it"):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not isinstance(caught.value, OutOfMemory)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu() -> None:
    with pytest.raises(OutOfMemory), out_of_memory.named("it"):
        torch.empty(1 << 45, dtype=torch.uint8, device="cuda")
