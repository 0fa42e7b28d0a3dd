"""The app that the verbs register on, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.option_checks import file

app = typer.Typer(
    help="Eigen-Prion: the published attack on language models, the corrected one, and their controls.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.", callback=file)]
