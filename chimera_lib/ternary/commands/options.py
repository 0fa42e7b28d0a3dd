"""The app that the verbs register on, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.option_checks import at_least, between, file

app = typer.Typer(
    help="Chimera 2.1: compare optimizers and ternary quantizers, train a ResNet-20, attribute what does what.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


LogJsonl = Annotated[Path | None, typer.Option("--log-jsonl", help="Append records to this JSON Lines file.")]
Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.", callback=file)]
# Seeds from 1000 on choose learning rates, and are never reported.
Seeds = Annotated[int, typer.Option(help="Seeds to run: 0, 1, ...", callback=between(1, 1000))]
Steps = Annotated[int, typer.Option(help="Optimizer steps of a run.", callback=at_least(1))]
