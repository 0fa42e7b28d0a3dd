"""The verb that defends: every defence against an attack that knows it."""

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
    load_model,
    names,
    two,
)


@app.command()
def defend(
    starts: Annotated[int, typer.Option(help="CIFAR-10 test images to attack from.", callback=at_least(1))] = 100,
    defences: Annotated[str, typer.Option(help="With commas between; all where empty.")] = "",
    pair: Pair = "openblas,blis",
    model: ModelName = "cifarvgg",
    evaluations: Evaluations = 400,
    oracle_calls: OracleCalls = 40,
    accuracy_on: Annotated[
        int, typer.Option(help="CIFAR-10 test images to measure accuracy on; 0 leaves it out.", callback=at_least(0))
    ] = 2000,
    seed: Seed = 0,
    output: Annotated[Path, typer.Option(help="Folder for each defence's rows and images; a second run goes on.")] = (
        Path("out/defences")
    ),
    record: Record = None,
) -> None:
    """Attack every defence, knowing it, and say what it costs.

    An evaluation is one of the defended system. The fixed order is slow, so its attack may ask half as often.
    """
    from chimera_lib import cifar10
    from chimera_lib.images.defences import DEFENCES, compare, report, trial
    from chimera_lib.images.search.protocol import Budget

    data = cifar10.load()
    images, labels = data["test_images"], data["test_labels"]
    if max(starts, accuracy_on) > len(images):
        raise ChimeraError(f"--starts {starts} --accuracy-on {accuracy_on}: expected at most {len(images)} each")
    module, network = load_model(model)
    budget = Budget(evaluations=evaluations, oracle_calls=oracle_calls)
    trials = compare.compare(
        module,
        network,
        names(defences) or list(DEFENCES),
        trial.Setting(images, labels, starts, accuracy_on, budget, seed, output),
        pair=two(pair),
        noise_on=data["train_images"][49500:],
        fewer=("fixed-order",),
        report=typer.echo,
    )
    typer.echo(report.as_text(trials))
    if record:
        report.write_record(record, trials)
        typer.echo(f"metrics in {record}")
