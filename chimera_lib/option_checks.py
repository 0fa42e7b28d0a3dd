"""Checks for the options of commands: each refuses a value that cannot work before the work begins, naming it."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  (Typer reads the annotations of a callback)
from typing import TYPE_CHECKING

import typer

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable


def between(least: int, most: int) -> Callable[[int | None], int | None]:
    """A check for an option: refuses numbers outside of the range, naming it."""

    def check(value: int | None) -> int | None:
        if value is not None and not least <= value <= most:
            raise typer.BadParameter(f"{value}; expected {least} to {most}")
        return value

    return check


def file(path: Path | None) -> Path | None:
    """A check for an option: a file that can be written, asked before the work and not after it."""
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder; expected a file")
        folder(path.absolute().parent)
    return path


def folder(path: Path) -> Path:
    """A check for an option: a folder in which files can be made, or that can be made itself."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is no folder; name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{there} cannot be written to; name another place")
    return path


def at_least(least: float) -> Callable[[float | None], float | None]:
    """A check for an option: refuses a smaller number and NaN, naming it."""

    def check(value: float | None) -> float | None:
        if value is not None and not value >= least:
            raise typer.BadParameter(f"{value}; expected at least {least}")
        return value

    return check


def names(option: str, text: str) -> list[str]:
    """Split a list with commas. Raises ChimeraError where nothing is left, or a name comes twice."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or len(set(parts)) < len(parts):
        raise ChimeraError(f"{option} {text!r}: expected different names with commas between")
    return parts
