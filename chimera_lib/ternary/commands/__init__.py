"""The ``chimera ternary`` verbs: parse, call, print. One file a kind of work; each registers its verbs on ``app``."""

from __future__ import annotations

from chimera_lib.ternary.commands import quant_modes
from chimera_lib.ternary.commands.options import app

__all__ = ["app", "quant_modes"]
