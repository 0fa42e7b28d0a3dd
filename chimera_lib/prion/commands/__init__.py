"""The ``chimera prion`` verbs: parse, call, print. One file a kind of work; each registers its verbs on ``app``."""

from __future__ import annotations

from chimera_lib.prion.commands import analyze, catalyst, compare, ladder, memory, orchestrate, run
from chimera_lib.prion.commands.options import app

__all__ = ["analyze", "app", "catalyst", "compare", "ladder", "memory", "orchestrate", "run"]
