"""Verbs of the challenge's submission: ``submit`` packs one, ``verify`` scores any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.images.commands.options import ModelName, Pair, Record, app, at_least, load_model, names, two


@app.command()
def submit(
    folder: Annotated[Path, typer.Argument(help="A folder written by `chimera images generate`.")],
    output: Annotated[Path, typer.Option(help="The zip to write; its manifest goes beside it.")] = Path(
        "out/submission.zip"
    ),
    count: Annotated[int, typer.Option(help="Images in the zip; the distinct ones repeat in turn.")] = 1000,
) -> None:
    """Pack chimeras into a submission by the organisers' rules."""
    from chimera_lib.images import campaign, submission

    if not (folder / "rows.jsonl").is_file():
        raise ChimeraError(f"{folder}: no rows.jsonl in it; name a folder written by `chimera images generate`")
    origins, images = campaign.origins(folder)
    submission.pack(images[:count], output, origins[:count], count)
    typer.echo(
        f"{output}: {count} images, {len(images[:count])} of them distinct; manifest {output.with_suffix('.json')}"
    )


@app.command()
def verify(
    archive: Annotated[Path, typer.Argument(help="A submission's zip.")],
    pair: Pair = "openblas,blis",
    also: Annotated[str, typer.Option(help="More backends to ask, for information, with commas between.")] = "",
    rounds: Annotated[int, typer.Option(help="How often to ask, in fresh processes.", callback=at_least(1))] = 2,
    model: ModelName = "cifarvgg",
    require: Annotated[float, typer.Option(help="Exit status 1 where the score is below this.")] = 0.0,
    record: Record = None,
) -> None:
    """Score a submission again.

    The score is the share of images whose class differs between the pair.
    """
    from chimera_lib.images import submission

    _, network = load_model(model)
    score = submission.verify(archive, network, two(pair), others=names(also), rounds=rounds, report=typer.echo)
    for backend, reason in score.lost.items():
        typer.echo(f"{backend} did not answer: {reason}")
    if score.failures:
        typer.echo(f"no chimeras: {', '.join(score.failures[:10])}{' ...' if len(score.failures) > 10 else ''}")
    same = "equal to the bit" if score.repeatable else "NOT equal to the bit"
    typer.echo(f"score {score.score:.4f} on {score.files} images ({score.unique} distinct); {rounds} round(s) {same}")
    if record:
        submission.write_record(record, score)
        typer.echo(f"metrics in {record}")
    if score.score < require:
        raise typer.Exit(1)
