"""A name for running out of memory, on a GPU or on the machine, so that one run can fail and the others go on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

WAYS_OUT = "a smaller model, --quantization 4bit, gradient checkpointing, a shorter text, or Adafactor instead of AdamW"
# What torch's allocators say on the CPU, where running out is a plain RuntimeError.
_CPU_WORDS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "std::bad_alloc")


@contextlib.contextmanager
def named(what: str, way_out: str = WAYS_OUT) -> Iterator[None]:
    """Turn running out of memory within the block into an error that says at what, and what to change.

    A process that the system kills for its memory cannot be caught: Linux promises more than it has. The estimate of
    `chimera_lib.prion.memory`, read before the start, is what helps there.

    Args:
        what: the work, as the message should name it, e.g. ``"fine-tuning 2.8b"``.
        way_out: what may help.

    Raises:
        OutOfMemory: for torch.OutOfMemoryError, MemoryError, and what torch's CPU allocator raises; all other errors
            pass unchanged.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_message(what, str(error), way_out)) from error
    except RuntimeError as error:
        if not any(words in str(error).lower() for words in _CPU_WORDS):
            raise
        raise OutOfMemory(_message(what, str(error), way_out)) from error


def _message(what: str, reason: str, way_out: str) -> str:
    first = (reason.strip().splitlines() or ["no more is known"])[0].rstrip(".")
    return f"{what} ran out of memory ({first}); try {way_out}"
