"""``chimera prion compare``: treatments and controls on the same models, seeds and optimizers, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least, between, folder
from chimera_lib.prion.commands.options import Record, app

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Setting

Lists = "repeatable"


@app.command()
def compare(
    model: Annotated[list[str] | None, typer.Option(help=f"As in `prion run`; {Lists}.")] = None,
    treatment: Annotated[list[str] | None, typer.Option(help=f"Default: all of them; {Lists}.")] = None,
    optimizer: Annotated[list[str] | None, typer.Option(help=f"Default: adamw; {Lists}.")] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option("--learning-rate", "--lr", help=f"Default 1e-4, neox-* 1e-3; {Lists}.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help=f"fp32, fp32-lora, 8bit-lora, 4bit-lora; {Lists}.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each; seeds 43, 44, ...", callback=between(1, 1000))] = 5,
    steps: Annotated[int, typer.Option(help="Fine-tuning steps.", callback=at_least(0))] = 100,
    catalyst_steps: Annotated[int, typer.Option(help="Steps that make the catalyst.", callback=at_least(0))] = 100,
    checkpoint: Annotated[str, typer.Option(help="Of neox-*: matched-loss or matched-tokens.")] = "matched-loss",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    processes: Annotated[int, typer.Option(help="Runs at a time.", callback=at_least(1))] = 1,
    output_dir: Annotated[Path, typer.Option(help="Keeps finished runs.", callback=folder)] = Path("out/prion/compare"),
    record: Record = None,
) -> None:
    """Run every combination with every seed, and say how far each treatment is from each control, seed by seed."""
    import itertools

    from chimera_lib import recorded
    from chimera_lib.prion import campaign, comparison, experiment
    from chimera_lib.prion.experiment import Setting

    chosen = treatment or [name for name in experiment.TREATMENTS if name != "eigen_prion_hard"]
    if "eigen_prion" not in chosen:
        raise ChimeraError(f"--treatment {', '.join(chosen)}: expected eigen_prion among them, to compare with")
    settings: list[Setting] = []
    rates: list[float | None] = [*learning_rate] if learning_rate else [None]
    for name, kind, rate, level, shown in itertools.product(
        model or ["neox-1m"], optimizer or ["adamw"], rates, precision or ["fp32"], chosen
    ):
        base = Setting(
            model=name, treatment=shown, optimizer=kind, learning_rate=rate, steps=steps, precision=level.split("-")[0],
            tuning="lora" if level.endswith("-lora") else "full", catalyst_steps=catalyst_steps, checkpoint=checkpoint,
            device=device,
        )  # fmt: skip
        settings += experiment.pairs(base, (shown,), tuple(range(43, 43 + seeds)))
    output_dir.mkdir(parents=True, exist_ok=True)
    outcomes, failures = campaign.run(settings, processes=processes, rows=output_dir / "runs.jsonl")
    for line in comparison.lines(outcomes):
        typer.echo(line)
    if failures:
        raise campaign.failed(failures)
    if record is not None:
        recorded.write(record, recorded.command_line(), comparison.metrics(outcomes))
