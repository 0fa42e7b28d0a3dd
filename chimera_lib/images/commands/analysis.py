"""The verbs of ``chimera images analyze``: what chimeras are made of, and how rare they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    load_model,
    names,
    start_images,
    two,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

analyze = typer.Typer(help="Explain what chimeras are made of and how rare they are.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")

Folder = Annotated[Path, typer.Argument(help="A folder written by `chimera images generate`.")]

LIBRARIES = "openblas,blis,mkl,torch,onnxruntime,openvino,jax"


def write_record(path: Path | None, metrics: Mapping[str, Any], backends: Mapping[str, Mapping[str, str]]) -> None:
    """Write metrics for the table of figures, where a path was given."""
    from chimera_lib import recorded

    if path:
        recorded.write(path, recorded.command_line(), metrics, backends)
        typer.echo(f"metrics in {path}")


@analyze.command()
def prevalence(
    count: Annotated[int, typer.Option(help="Natural images to ask about.", callback=at_least(2))] = 10000,
    backends: Annotated[str, typer.Option(help="With commas between.")] = LIBRARIES,
    model: ModelName = "cifarvgg",
    output: Annotated[Path, typer.Option(help="Folder for the rows; a second run goes on there.")] = Path(
        "out/prevalence"
    ),
    record: Record = None,
) -> None:
    """Count conflicts on natural images.

    Bounds their rate exactly, and says what rate margins and noise predict.
    """
    from chimera_lib.images.analysis import prevalence as question
    from chimera_lib.images.oracle import Oracle

    images = start_images(model, count)
    if count > len(images):
        raise ChimeraError(f"--count {count}: expected at most {len(images)}")
    _, network = load_model(model)
    with Oracle(network, names(backends)) as oracle:
        rows = question.measure(images, oracle, output)
        facts = oracle.info()
    found = question.summarise(rows)
    typer.echo(question.as_text(found))
    write_record(record, question.metrics(found, len(facts)), facts)


def chimeras(folder: Path, count: int | None = None) -> dict[int, np.ndarray]:
    """The chimeras that a search kept in a folder, uint8 (H, W, 3) by start; ChimeraError where there are none."""
    from chimera_lib.images import campaign

    if not (folder / "rows.jsonl").is_file():
        raise ChimeraError(f"{folder}: no rows.jsonl in it; name a folder written by `chimera images generate`")
    found = {start: image for start, (_, image) in sorted(campaign.load(folder).items()) if image is not None}
    if not found:
        raise ChimeraError(f"{folder}: no chimeras in it; name a folder of a search that found some")
    return dict(list(found.items())[:count])


@analyze.command()
def pockets(
    folder: Folder = Path("out/chimeras"),
    count: Annotated[int, typer.Option(help="The first so many of the folder.", callback=at_least(1))] = 120,
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    output: Annotated[Path, typer.Option(help="Folder for the rows; a second run goes on there.")] = Path(
        "out/pockets"
    ),
    seed: Seed = 0,
    record: Record = None,
) -> None:
    """Measure how far around chimeras the backends disagree.

    The distance is in units in the last place.
    """
    from chimera_lib.images.analysis import pockets as question
    from chimera_lib.images.oracle import Oracle

    images = chimeras(folder, count)
    module, network = load_model(model)
    with Oracle(network, names(backends)) as oracle:
        found = question.measure(module, images, oracle, seed=seed, output=output)
        facts = oracle.info()
    if not found:
        raise ChimeraError(f"{folder}: none of {len(images)} images is a chimera on {backends}; name its own backends")
    typer.echo(question.as_text(found))
    write_record(record, question.metrics(found), facts)


@analyze.command()
def criteria(
    starts: Annotated[int, typer.Option(help="Natural images to walk from.", callback=at_least(2))] = 200,
    first: Annotated[int, typer.Option(help="Number of the first of them.", callback=at_least(0))] = 0,
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 5000,
    oracle_calls: OracleCalls = 200,
    output: Annotated[Path, typer.Option(help="Folder for the rows; a second run goes on there.")] = Path(
        "out/criteria"
    ),
    seed: Seed = 0,
    record: Record = None,
) -> None:
    """Say how well criteria tell chimeras from other images.

    Gap, entropy and top-3 spread, against natural, near and refused images.
    """
    from chimera_lib.images.analysis import criteria as question
    from chimera_lib.images.oracle import Oracle
    from chimera_lib.images.search.protocol import Budget

    images = start_images(model, first + starts)
    if first + starts > len(images):
        raise ChimeraError(f"--first {first} --starts {starts}: expected at most {len(images)} together")
    module, network = load_model(model)
    budget = Budget(evaluations=evaluations, oracle_calls=oracle_calls)
    with Oracle(network, names(backends)) as oracle:
        rows = question.measure(
            module, images, range(first, first + starts), oracle, budget=budget, seed=seed, output=output
        )
        facts = oracle.info()
    found = question.summarise(rows)
    if not found:
        raise ChimeraError(f"no walk from {starts} starts found a chimera; raise --starts or --evaluations")
    typer.echo(question.as_text(found))
    write_record(record, question.metrics(found), facts)


@analyze.command()
def layers(
    count: Annotated[int, typer.Option(help="Natural images to send through.", callback=at_least(2))] = 100,
    backends: Annotated[
        str, typer.Option(help="GEMM backends; each is compared with the first.")
    ] = "openblas,blis,mkl",
    model: ModelName = "cifarvgg",
    output: Annotated[Path | None, typer.Option(help="Write every operation's row to this JSON file.")] = None,
    seed: Seed = 0,
    record: Record = None,
) -> None:
    """Say where in the network two backends start to differ.

    And how the difference in one matrix product grows with the length K of its sums.
    """
    import json

    from chimera_lib.images import campaign
    from chimera_lib.images.analysis import layers as question
    from chimera_lib.images.analysis import products
    from chimera_lib.images.oracle import Oracle

    images = start_images(model, count)
    _, network = load_model(model)
    asked = names(backends)
    with Oracle(network, asked) as oracle:  # says at once what is missing, and what each is
        facts = oracle.info()
    metrics: dict[str, Any] = {}
    rows = {}
    for other in asked[1:]:
        found = question.divergence(network, images, (asked[0], other))
        typer.echo(f"{asked[0]} against {other}, {len(images)} images\n{question.as_text(found)}")
        metrics |= {f"{other.replace(':', '_')}_{key}": value for key, value in question.metrics(found).items()}
        rows[other] = question.as_rows(found)
    grown = products.growth(asked, seed=seed) + products.growth(asked, real=products.real_matrices(network, images[:8]))
    typer.echo(products.as_text(grown))
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        campaign.write_whole(output, json.dumps(rows, indent=2).encode())
    write_record(record, metrics | products.metrics(grown), facts)


@analyze.command()
def transfer(
    folders: Annotated[list[Path], typer.Argument(help="Folders that searches wrote; a row of the table each.")],
    pairs: Annotated[list[str], typer.Option("--pairs", help="Two backends with a comma; once for every column.")],
    model: ModelName = "cifarvgg",
    output: Annotated[Path | None, typer.Option(help="Folder for the table (JSON) and its heat map (PNG).")] = None,
    record: Record = None,
) -> None:
    """Show chimeras to backends that their search never asked.

    Says which pairs of backends really are held out.
    """
    import json

    from chimera_lib import plotting
    from chimera_lib.images import campaign
    from chimera_lib.images.analysis import figures
    from chimera_lib.images.analysis import transfer as question
    from chimera_lib.images.backends import registry
    from chimera_lib.images.oracle import Oracle

    columns = [two(pair) for pair in pairs]
    backends = {name: registry.get(name) for pair in columns for name in pair}
    searched = question.read(folders)
    _, network = load_model(model)
    cells = question.matrix(network, searched, columns)
    typer.echo(question.as_text(cells))
    if output:
        output.mkdir(parents=True, exist_ok=True)
        campaign.write_whole(output / "transfer.json", json.dumps(question.as_rows(cells), indent=2).encode())
        plotting.style()
        campaign.write_whole(output / "transfer.png", plotting.png(figures.transfer(cells)))
    if record:
        with Oracle(network, list(backends)) as oracle:
            write_record(record, question.metrics(cells), oracle.info())
