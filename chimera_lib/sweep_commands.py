"""``chimera sweep``: run a grid of notebooks or commands, here or on a Ray cluster. It parses, calls and prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from chimera_lib.errors import ChimeraError

app = typer.Typer(rich_markup_mode=None)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.yml", help="The sweep file; examples: notebooks/sweeps/.")],
    engine: Annotated[str | None, typer.Option(help="local: processes of this machine; ray: a Ray cluster.")] = None,
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster, HOST:PORT or auto; default: a Ray of this machine.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time; default: 1 (local), as many as fit (ray).")
    ] = None,
    gpus_per_run: Annotated[
        float | None, typer.Option(min=0, help="Graphics cards of a cell; a part of one shares it.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The folder of runs, or s3://bucket/folder; default: runs in the project.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="How often a cell is tried again after it was killed; default: 2.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which a cell is killed; default: never.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells and whether they are done.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Execute even what has been run, and replace it.")] = False,
) -> None:
    """Run every cell of a sweep file that is not done; options go before what the file says."""
    from chimera_lib.runs import notebooks, progress, sweep_file
    from chimera_lib.runs import sweep as sweeps

    if timeout is not None and not 0 < timeout < float("inf"):
        raise ChimeraError(f"--timeout {timeout:g}: expected seconds, more than 0")
    if output is not None and "://" not in output:
        output = str(Path(output).absolute())  # a folder on the command line is one of here, not of the project
    given: dict[str, Any] = {
        "engine": engine,
        "address": address,
        "jobs": jobs,
        "gpus_per_run": gpus_per_run,
        "output": output,
        "retries": retries,
        "timeout": timeout,
    }
    asked = sweep_file.read(file)
    asked = dataclasses.replace(asked, **{name: value for name, value in given.items() if value is not None})
    root = notebooks.project_root()
    if dry_run:
        for line in sweeps.preview(asked, root, force=force):
            typer.echo(line)
        return
    with progress.Progress() as report:
        summary = sweeps.run(asked, root, force=force, report=report)
    for line in summary.table():
        typer.echo(line)
    counts = ", ".join(f"{number} {status}" for status, number in summary.counts().items())
    folder = f"{sweeps.store_of(asked, root).root}/{asked.name}"
    typer.echo(f"{counts}; in {folder}")
    sweeps.complain(asked, summary, folder)
