"""The verbs that compare optimizers: on one stress problem, or on all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least, folder, names
from chimera_lib.ternary.commands.options import LogJsonl, Record, Seeds, Steps, app

if TYPE_CHECKING:
    from collections.abc import Mapping

TuningSeeds = Annotated[
    int, typer.Option(help="Seeds to tune learning rates on; others than those reported.", callback=at_least(1))
]
FirstSeed = Annotated[int, typer.Option(help="The first seed to report; the others follow it.", callback=at_least(0))]
Sparsity = Annotated[float, typer.Option(help="Share of sparse_relu's inputs set to zero, in [0, 1).")]
NoiseScale = Annotated[float, typer.Option(help="Standard deviation of noisy_quadratic's noise.")]
Optimizers = Annotated[str, typer.Option(help="With commas between; all where empty. AdamW always runs.")]
LogEvery = Annotated[int, typer.Option(help="Log each so many steps of a run.", callback=at_least(1))]


def finite(option: str, value: float) -> float:
    """An option's number, checked to be finite and at least 0."""
    if not 0 <= value < math.inf:
        raise ChimeraError(f"{option} {value}: expected a finite number of at least 0")
    return value


def write_record(path: Path | None, metrics: Mapping[str, Any]) -> None:
    """Write metrics for the table of figures, where a path was given."""
    from chimera_lib import recorded

    if path:
        recorded.write(path, recorded.command_line(), metrics)
        typer.echo(f"metrics in {path}")


@app.command("compare-optimizers")
def compare_optimizers(
    problem: Annotated[str, typer.Option(help="regression, sparse_relu, noisy_quadratic or saddle.")] = "regression",
    steps: Steps = 300,
    seeds: Seeds = 20,
    first_seed: FirstSeed = 0,
    tuning_seeds: TuningSeeds = 5,
    sparsity: Sparsity = 0.7,
    noise_scale: NoiseScale = 1.0,
    optimizers: Optimizers = "",
    learning_rate: Annotated[
        float | None, typer.Option(help="For all optimizers, as published, instead of tuning each.")
    ] = None,
    log_jsonl: LogJsonl = None,
    log_every: LogEvery = 10,
    record: Record = None,
) -> None:
    """Compare optimizers with AdamW on one stress problem.

    Each at its own learning rate, tuned on other seeds. Differences are paired by seed and judged without noise.
    """
    import torch

    from chimera_lib.ternary.experiments import optimizer_comparison, optimizer_log, optimizer_report, trial, tuning
    from chimera_lib.ternary.experiments.log import Log

    torch.set_num_threads(1)  # tensors of a few elements; and the number of threads changes the last bits
    task = trial.Task(problem, steps, sparsity, noise_scale)
    wanted = optimizer_comparison.contenders(names("--optimizers", optimizers) if optimizers else None)
    reported, others = tuning.seeds_apart(seeds, tuning_seeds, first_seed)
    if learning_rate is not None:
        finite("--learning-rate", learning_rate)
    with Log(log_jsonl, "compare-optimizers", schema="optimizer") as log:
        rows = optimizer_comparison.compare(
            task,
            wanted,
            seeds=reported,
            tuning_seeds=others,
            learning_rate=learning_rate,
            runner=optimizer_log.Logged(log, log_every) if log_jsonl else trial.run,
        )
        optimizer_log.log_rows(log, rows)
    typer.echo(optimizer_report.as_text(rows))
    write_record(record, optimizer_report.metrics(rows))


@app.command("stress-suite")
def stress_suite(
    steps: Steps = 300,
    seeds: Seeds = 20,
    first_seed: FirstSeed = 0,
    tuning_seeds: TuningSeeds = 5,
    sparsity: Sparsity = 0.7,
    noise_scale: NoiseScale = 1.0,
    optimizers: Optimizers = "",
    shared_learning_rate: Annotated[
        float, typer.Option(help="Of the last table, in which AdamW and all gates have this one.")
    ] = 0.01,
    output: Annotated[
        Path, typer.Option(help="Folder for the trials; a second run goes on there.", callback=folder)
    ] = Path("out/stress-suite"),
    log_jsonl: LogJsonl = None,
    log_every: LogEvery = 10,
    record: Record = None,
) -> None:
    """Compare optimizers on all stress problems.

    Three tables: each optimizer at its tuned learning rate, the gates at AdamW's, and the gates at one, as published.
    """
    import torch

    from chimera_lib.ternary.experiments import optimizer_comparison, optimizer_log, optimizer_report, trial, tuning
    from chimera_lib.ternary.experiments import stress_suite as suite
    from chimera_lib.ternary.experiments.log import Log

    torch.set_num_threads(1)
    wanted = optimizer_comparison.contenders(names("--optimizers", optimizers) if optimizers else None)
    reported, others = tuning.seeds_apart(seeds, tuning_seeds, first_seed)
    finite("--shared-learning-rate", shared_learning_rate)
    trial.Task("regression", steps, sparsity, noise_scale)  # refuses what is out of range before a folder is made
    with Log(log_jsonl, "stress-suite", schema="optimizer") as log:
        runner = optimizer_log.Logged(log, log_every) if log_jsonl else trial.run
        keeping = suite.Keeping(output, steps=steps, sparsity=sparsity, noise_scale=noise_scale, runner=runner)
        rows = suite.tuned(keeping, seeds=reported, tuning_seeds=others, optimizers=wanted, progress=True)
        gates = [name for name in suite.SHARED if name in wanted]
        matched = suite.matched(keeping, rows, seeds=reported, optimizers=gates)
        same = suite.shared(keeping, learning_rate=shared_learning_rate, seeds=reported, optimizers=gates)
        optimizer_log.log_rows(log, rows + matched + same)
    typer.echo(f"each at its own learning rate, tuned on other seeds\n{optimizer_report.as_text(rows)}")
    typer.echo(f"\nall at the learning rate that AdamW was tuned to\n{optimizer_report.as_text(matched)}")
    typer.echo(f"\nall at the learning rate {shared_learning_rate:g}\n{optimizer_report.as_text(same)}")
    found = optimizer_report.metrics(rows) | optimizer_report.metrics(matched, "matched_")
    found |= optimizer_report.metrics(same, "shared_")
    counts = {f"suite_{word.replace(' ', '_')}": count for word, count in optimizer_report.totals(rows).items()}
    write_record(record, found | counts)
