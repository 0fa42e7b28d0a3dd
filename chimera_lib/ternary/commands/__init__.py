"""The ``chimera ternary`` verbs: parse, call, print. One file a kind of work; each registers its verbs on ``app``."""

from __future__ import annotations

from chimera_lib.ternary.commands import clean, optimizers, quant_modes, resnet
from chimera_lib.ternary.commands.options import app

__all__ = ["app", "clean", "optimizers", "quant_modes", "resnet"]
