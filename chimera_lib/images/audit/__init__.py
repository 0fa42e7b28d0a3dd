"""Audit a model: do these images get different classes from these backends, and how near are they to it?

from chimera_lib.images import audit
found = audit.audit(audit.load("model.onnx"), images)    # images: uint8 (N, H, W, C)
found.conflict, found.margins, found.noise, found.extrapolated
"""

from __future__ import annotations

from chimera_lib.images.analysis.rate import extrapolate
from chimera_lib.images.audit.measure import audit
from chimera_lib.images.audit.model import load, normalised
from chimera_lib.images.audit.present import default_backends
from chimera_lib.images.audit.reading import Folder, Stack, first_size, folder
from chimera_lib.images.audit.result import Audit, Made

__all__ = [
    "Audit",
    "Folder",
    "Made",
    "Stack",
    "audit",
    "default_backends",
    "extrapolate",
    "first_size",
    "folder",
    "load",
    "normalised",
]
