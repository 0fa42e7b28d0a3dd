"""The verb that takes away what the others left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.ternary.commands.options import app


@app.command()
def clean(
    folder: Annotated[Path, typer.Argument(help="Where to look, with all folders in it.")] = Path("out"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; without it they are only listed.")] = False,
) -> None:
    """List, or delete with --yes, logs, rows and checkpoints of these commands; other files are left alone."""
    from chimera_lib.ternary.experiments import artifacts

    found = artifacts.find(folder)
    for path in found:
        typer.echo(path)
        if yes:
            path.unlink()
            # A folder that held nothing else goes too, but not the one that was named.
            while (path := path.parent) not in (folder, folder.parent) and not any(path.iterdir()):
                path.rmdir()
    done = "deleted" if yes else "found; chimera ternary clean --yes deletes them"
    typer.echo(f"{len(found)} {done}")
