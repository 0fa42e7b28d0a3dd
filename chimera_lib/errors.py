"""Errors a person can mend: each message is one line that names the value, what was expected and the way out."""

# ruff: noqa: N818  (the class names say what went wrong; the base class says that it is an error)
from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AssetMissing",
    "BackendDied",
    "BackendUnavailable",
    "BadGradient",
    "BadImage",
    "BadSubmission",
    "CannotConvert",
    "ChecksumMismatch",
    "ChimeraError",
    "KernelDied",
    "NotebookFailed",
    "NothingToControl",
    "NothingToConvert",
    "OutOfMemory",
    "UnknownName",
]


class ChimeraError(Exception):
    """Anything the user can mend. The command line prints ``error: <message>`` and exits with status 2."""


class AssetMissing(ChimeraError):
    """A data set or a weights file is not in the cache and was not (or could not be) fetched."""


class ChecksumMismatch(ChimeraError):
    """A file's checksum is not the one recorded for it."""


class BackendUnavailable(ChimeraError):
    """A linear algebra backend cannot run on this machine; the message says why."""


class BackendDied(ChimeraError):
    """A backend's worker process ended, crashed or stopped answering in the middle of its work."""


class BadGradient(ChimeraError, RuntimeError):
    """A gradient that an optimizer cannot use: sparse, complex or not finite (a RuntimeError, as in torch.optim)."""


class BadImage(ChimeraError):
    """An image has the wrong shape, depth or format."""


class BadSubmission(ChimeraError):
    """A submission archive breaks one of the organisers' rules."""


class CannotConvert(ChimeraError):
    """A layer that would go on multiplying by its full-precision weight, were it made ternary."""


class Diverged(ChimeraError):
    """A training run whose loss is no longer a finite number."""


class NothingToConvert(ChimeraError):
    """A model without a layer that could become ternary, or a ``skip`` that fits nothing or leaves nothing."""


class NothingToControl(ChimeraError):
    """A model without a layer whose share of zero weights is decided by a threshold."""


class OutOfMemory(ChimeraError):
    """Work that asked for more memory than the device or the machine could give."""


class NotebookFailed(ChimeraError):
    """A notebook raised an error, or one of its claims did not hold."""


class KernelDied(NotebookFailed):
    """The kernel that ran a notebook was killed or crashed, so the run may be worth another try."""


class UnknownName(ChimeraError):
    """A name that is not among the known ones; the message lists those and the closest match.

    Args:
        kind: what the name stands for, e.g. ``"notebook"``.
        name: the value that was given.
        known: the names that exist.
        hint: one more clause with the way out, optional.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        close = difflib.get_close_matches(name, names, n=1)
        sentences = [
            f"unknown {kind} {name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""),
            f"known: {', '.join(names)}" if names else f"there is no {kind} here",
        ]
        super().__init__("; ".join(sentences + ([hint] if hint else [])))
        self.name = name
        self.known = names
