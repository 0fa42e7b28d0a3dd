"""The app that the verbs register on, and the options that several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.option_checks import at_least, file, folder

app = typer.Typer(
    help="Eigen-Prion: the published attack on language models, the corrected one, and their controls.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.", callback=file)]
Model = Annotated[
    str,
    typer.Option(help="neox-0.3m to neox-8m, smollm2-135m, 70m to 2.8b (Pythia), or a folder of save_pretrained."),
]
Arm = Annotated[str, typer.Option(help="corrected, or as_published with all its faults.")]
Verbosity = Annotated[str, typer.Option(help="quiet, normal or verbose.")]
LearningRate = Annotated[
    float | None, typer.Option("--learning-rate", "--lr", help="Default 1e-4, neox-* 1e-3.", callback=at_least(0))
]
OutputDir = Annotated[Path, typer.Option(help="The folder that all of it goes into.", callback=folder)]
