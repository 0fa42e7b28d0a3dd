"""The app that the verbs register on, the options that several of them share, and what those mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    help="Chimera 2.1: compare optimizers and ternary quantizers, train a ResNet-20, attribute what does what.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


def at_least(least: float) -> Callable[[float | None], float | None]:
    """A check for an option: refuses a smaller number and NaN, naming it."""

    def check(value: float | None) -> float | None:
        if value is not None and not value >= least:
            raise typer.BadParameter(f"{value}; expected at least {least}")
        return value

    return check


LogJsonl = Annotated[Path | None, typer.Option("--log-jsonl", help="Append records to this JSON Lines file.")]
Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.")]
Seeds = Annotated[int, typer.Option(help="Seeds to run: 0, 1, ...", callback=at_least(1))]
Steps = Annotated[int, typer.Option(help="Optimizer steps of a run.", callback=at_least(1))]


def names(option: str, text: str) -> list[str]:
    """Split a list with commas. Raises ChimeraError where nothing is left, or a name comes twice."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or len(set(parts)) < len(parts):
        raise ChimeraError(f"{option} {text!r}: expected different names with commas between")
    return parts
