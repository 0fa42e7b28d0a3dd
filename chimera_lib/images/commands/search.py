"""Verbs that search: ``search`` from one image, ``generate`` many, ``compare`` strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.images.commands.options import (
    Evaluations,
    ModelName,
    OracleCalls,
    Pair,
    Record,
    Seed,
    app,
    at_least,
    class_names,
    load_model,
    names,
    start_images,
    whole_numbers,
)


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="An 8-bit RGB PNG of the network's size to start from.")],
    output: Annotated[Path, typer.Option(help="Where the chimera goes.")] = Path("out/chimera.png"),
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "lattice",
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 5000,
    oracle_calls: OracleCalls = 200,
    seed: Seed = 0,
) -> None:
    """Find a chimera near one image.

    Exit status 1 where the budget ends first.
    """
    from chimera_lib.images import campaign, models, png
    from chimera_lib.images import search as strategies
    from chimera_lib.images.oracle import Oracle
    from chimera_lib.images.search.protocol import Budget

    start = png.read_png(image, models.input_shape(model)[1])
    find = strategies.strategy(strategy)
    budget = Budget(evaluations=evaluations, oracle_calls=oracle_calls)
    module, network = load_model(model)
    with Oracle(network, names(backends)) as oracle:
        outcome = find(module, start, oracle, budget, seed)
        spent = f"{outcome.evaluations} forward evaluations, {outcome.oracle_calls} oracle calls"
        if outcome.chimera is None or outcome.predictions is None:
            typer.echo(f"no chimera found in {spent}; raise --evaluations or --oracle-calls, or try another --seed")
            raise typer.Exit(1)
        said = zip(oracle.names, outcome.predictions, strict=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    campaign.write_whole(output, png.png_bytes(outcome.chimera))
    typer.echo(f"{output}: {', '.join(f'{name} says {class_names(model)[c]}' for name, c in said)} ({spent})")


@app.command()
def generate(
    unique: Annotated[int, typer.Option(help="Different chimeras wanted.", callback=at_least(1))] = 200,
    output: Annotated[Path, typer.Option(help="Folder for images and rows; a second run goes on there.")] = Path(
        "out/chimeras"
    ),
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "lattice",
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 5000,
    oracle_calls: OracleCalls = 200,
    seed: Seed = 0,
) -> None:
    """Find many chimeras and keep them in a folder.

    From CIFAR-10 test images (or photographs, for efficientnet-lite0), in their order.
    """
    from chimera_lib.images import generate as generating
    from chimera_lib.images.search.protocol import Budget

    module, network = load_model(model)
    made = generating.chimeras(
        module,
        network,
        start_images(model),
        unique,
        backends=names(backends),
        output=output,
        strategy=strategy,
        budget=Budget(evaluations=evaluations, oracle_calls=oracle_calls),
        seed=seed,
    )
    typer.echo(f"{len(made.images)} chimeras from {made.tried} starts in {output}")


@app.command()
def compare(
    starts: Annotated[int, typer.Option(help="Images to start from.", callback=at_least(2))] = 200,
    first: Annotated[int, typer.Option(help="Number of the first of them.", callback=at_least(0))] = 0,
    strategies: Annotated[str, typer.Option(help="With commas between; all where empty.")] = "",
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 2000,
    oracle_calls: OracleCalls = 100,
    seeds: Annotated[str, typer.Option(help="Of the random draws; several with commas between.")] = "0",
    output: Annotated[Path, typer.Option(help="Folder for each strategy's rows and images.")] = Path("out/compare"),
    record: Record = None,
) -> None:
    """Compare search strategies by what they find and cost.

    All run from the same starts at the same budget.
    """
    from chimera_lib.images import compare as comparing
    from chimera_lib.images.search import STRATEGIES
    from chimera_lib.images.search.protocol import Budget

    of_draws = whole_numbers(seeds)
    images = start_images(model, first + starts)
    if first + starts > len(images):
        raise ChimeraError(f"--first {first} --starts {starts}: expected at most {len(images)} together")
    module, network = load_model(model)
    summaries = comparing.compare(
        module,
        network,
        images,
        range(first, first + starts),
        strategies=names(strategies) or list(STRATEGIES),
        backends=names(backends),
        budget=Budget(evaluations=evaluations, oracle_calls=oracle_calls),
        seeds=of_draws,
        output=output,
    )
    typer.echo(comparing.as_text(summaries))
    if record:
        comparing.write_record(record, summaries)
        typer.echo(f"metrics in {record}")
