"""The ``chimera images`` verbs: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import nn

    from chimera_lib.images.network import Network

app = typer.Typer(
    help="Chimera images: backends, train, search, generate, submit, verify, compare.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


def at_least(least: int) -> Callable[[int | None], int | None]:
    """A check for an option: refuses a smaller number, naming it."""

    def check(value: int | None) -> int | None:
        if value is not None and value < least:
            raise typer.BadParameter(f"{value}; expected at least {least}")
        return value

    return check


ModelName = Annotated[str, typer.Option("--model", help="cifarvgg or resnet20.")]
Pair = Annotated[str, typer.Option(help="Backends to set against each other, with commas between.")]
Evaluations = Annotated[int, typer.Option(help="Forward evaluations a start may cost.", callback=at_least(1))]
OracleCalls = Annotated[int, typer.Option(help="Images a start may show to the backends.", callback=at_least(1))]
Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.")]
Seed = Annotated[int, typer.Option(help="Of every random draw.", callback=at_least(0))]


def load_model(name: str) -> tuple[nn.Module, Network]:
    """The network by name, as a torch module on one thread and as the backends' form of it."""
    import torch

    from chimera_lib.images import models
    from chimera_lib.images.network import from_torch

    torch.set_num_threads(1)  # the number of threads changes the last bits
    model = models.load(name)
    return model, from_torch(model)


def names(text: str) -> list[str]:
    """Split a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def two(text: str) -> tuple[str, str]:
    """Exactly two different names; raises ChimeraError."""
    pair = names(text)
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ChimeraError(f"--pair {text}: expected two different backends with a comma, such as openblas,blis")
    return pair[0], pair[1]


def test_images() -> np.ndarray:
    """The CIFAR-10 test images, uint8 (10000, 32, 32, 3)."""
    from chimera_lib import cifar10

    return cifar10.load()["test_images"]


@app.command("backends")
def show_backends(
    only: Annotated[str, typer.Option(help="Names with commas between; all that are known where empty.")] = "",
    model: ModelName = "cifarvgg",
) -> None:
    """Show which backends this machine has, what each really is, and which give identical bits."""
    from chimera_lib.images.backends import equivalence

    _, network = load_model(model)
    equivalence.print_backends(network, names(only) or None, report=typer.echo)


@app.command()
def train(
    model: ModelName = "cifarvgg",
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint, the weights and the card.")] = Path(
        "out/train"
    ),
    epochs: Annotated[
        int | None, typer.Option(help="Instead of the recipe's; fewer is a rehearsal.", callback=at_least(1))
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Train on the first so many images only.", callback=at_least(128))
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    seed: Seed = 0,
) -> None:
    """Train a network of this part on CIFAR-10; goes on from its checkpoint when it was killed."""
    from dataclasses import replace

    from chimera_lib import cifar10
    from chimera_lib.errors import UnknownName
    from chimera_lib.images import train as training

    if model not in training.RECIPES:
        raise UnknownName("model", model, training.RECIPES)
    recipe = replace(training.RECIPES[model], precision=precision, limit=limit, seed=seed)
    if epochs is not None:
        share = recipe.small_epochs / recipe.epochs
        recipe = replace(recipe, epochs=epochs, small_epochs=int(share * epochs))
    card = training.train(recipe, cifar10.load(), output, device, report=typer.echo)
    typer.echo(f"test accuracy {card['test_accuracy']:.4f}; weights in {output / (model + '.safetensors')}")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="An 8-bit RGB PNG of 32x32 pixels to start from.")],
    output: Annotated[Path, typer.Option(help="Where the chimera goes.")] = Path("out/chimera.png"),
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "lattice",
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 5000,
    oracle_calls: OracleCalls = 200,
    seed: Seed = 0,
) -> None:
    """Find a chimera near one image. Exit status 1 where the budget ends first."""
    from chimera_lib.cifar10 import CLASSES
    from chimera_lib.images import campaign, png
    from chimera_lib.images import search as strategies
    from chimera_lib.images.oracle import Oracle
    from chimera_lib.images.search.protocol import Budget

    start = png.read_png(image, 32)
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
    typer.echo(f"{output}: {', '.join(f'{name} says {CLASSES[c]}' for name, c in said)} ({spent})")


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
    """Find chimeras from CIFAR-10 test images, in their order."""
    from chimera_lib.images import generate as generating
    from chimera_lib.images.search.protocol import Budget

    module, network = load_model(model)
    made = generating.chimeras(
        module,
        network,
        test_images(),
        unique,
        backends=names(backends),
        output=output,
        strategy=strategy,
        budget=Budget(evaluations=evaluations, oracle_calls=oracle_calls),
        seed=seed,
    )
    typer.echo(f"{len(made.images)} chimeras from {made.tried} starts in {output}")


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
    """Score a submission again: the share of images whose class differs between the pair."""
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


@app.command()
def compare(
    starts: Annotated[int, typer.Option(help="CIFAR-10 test images to start from.", callback=at_least(2))] = 200,
    first: Annotated[int, typer.Option(help="Number of the first of them.", callback=at_least(0))] = 0,
    strategies: Annotated[str, typer.Option(help="With commas between; all where empty.")] = "",
    backends: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 2000,
    oracle_calls: OracleCalls = 100,
    seed: Seed = 0,
    output: Annotated[Path, typer.Option(help="Folder for each strategy's rows and images.")] = Path("out/compare"),
    record: Record = None,
) -> None:
    """Run strategies from the same starts at the same budget and print what each finds and costs."""
    from chimera_lib.images import compare as comparing
    from chimera_lib.images.search import STRATEGIES
    from chimera_lib.images.search.protocol import Budget

    images = test_images()
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
        seed=seed,
        output=output,
    )
    typer.echo(comparing.as_text(summaries))
    if record:
        comparing.write_record(record, summaries)
        typer.echo(f"metrics in {record}")
