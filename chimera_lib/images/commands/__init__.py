"""The ``chimera images`` verbs: parse, call, print. One file a kind of work; each registers its verbs on ``app``."""

from __future__ import annotations

from chimera_lib.images.commands import analysis, audit, defences, search, setup, submission
from chimera_lib.images.commands.options import app

__all__ = ["analysis", "app", "audit", "defences", "search", "setup", "submission"]
