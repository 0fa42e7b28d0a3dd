"""Verbs about what there is to work with: ``backends`` and ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chimera_lib.images.commands.options import ModelName, Seed, app, at_least, load_model, names


@app.command("backends")
def show_backends(
    only: Annotated[str, typer.Option(help="Names with commas between; all that are known where empty.")] = "",
    file: Annotated[
        Path | None, typer.Option(help="A backend of your own in one Python file, beside openblas or the --only names.")
    ] = None,
    model: ModelName = "cifarvgg",
) -> None:
    """Show which backends this machine has.

    And what each really is, and which give identical bits.
    """
    from chimera_lib.images.backends import equivalence, registry

    listed = [registry.get(name) for name in names(only) or (["openblas"] if file else [])]
    if file:
        registry.with_files(registry.known(), [file])  # a name that is taken is an error
        listed += registry.from_file(file)
    _, network = load_model(model)
    equivalence.print_backends(network, listed or None, report=typer.echo)


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
    """Train a network of this part on CIFAR-10.

    Goes on from its checkpoint when it was killed.
    """
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
