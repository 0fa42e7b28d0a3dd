"""The ``chimera images`` verbs: parse, call, print. One file a kind of work; each registers its verbs on ``app``."""

from __future__ import annotations

from chimera_lib.images.commands import analysis, search, setup, submission
from chimera_lib.images.commands.options import app

__all__ = ["analysis", "app", "search", "setup", "submission"]
