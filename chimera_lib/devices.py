"""Which devices torch may train on here."""

from __future__ import annotations

import torch

from chimera_lib.errors import ChimeraError, UnknownName


def check_device(name: str) -> None:
    """Raise UnknownName for a device other than cpu and cuda, ChimeraError where there is no CUDA."""
    if name not in ("cpu", "cuda"):
        raise UnknownName("device", name, ("cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise ChimeraError("--device cuda: this torch sees no CUDA GPU; train with --device cpu")
