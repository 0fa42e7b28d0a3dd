"""The verbs that train the ResNet-20: one run, and the factorial ablation."""

from __future__ import annotations

import functools
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least, between, file, folder, names
from chimera_lib.ternary.commands.options import LogJsonl, Record, Seeds, app

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.ternary.experiments.cifar_batches import Splits

Synthetic = Annotated[bool, typer.Option("--synthetic", help="Patterns in noise in place of CIFAR-10: a smoke test.")]
DatasetRoot = Annotated[Path | None, typer.Option(help="A folder with a copy of CIFAR-10; default: the cache.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training images.", callback=at_least(1))]
BatchSize = Annotated[int, typer.Option(help="Images of a step.", callback=at_least(1))]
EvalBatchSize = Annotated[int, typer.Option(help="Images of an evaluation batch.", callback=at_least(1))]
MaxBatches = Annotated[int | None, typer.Option(help="Steps an epoch at most.", callback=at_least(1))]
EvalMaxBatches = Annotated[int | None, typer.Option(help="Evaluation batches at most.", callback=at_least(1))]
Schedule = Annotated[str, typer.Option(help="onecycle (up and down), or constant, as published.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Threads = Annotated[int, typer.Option(help="Threads of torch on the CPU.", callback=between(1, 256))]


def source_of(synthetic: bool, root: Path | None, download: bool) -> Callable[[], Splits]:
    """What loads the data that the options name."""
    from chimera_lib.ternary.experiments import cifar_batches

    if synthetic and (root is not None or download):
        raise ChimeraError("--synthetic needs no data: leave out --dataset-root and --download")
    if synthetic:
        return cifar_batches.synthetic
    return functools.partial(cifar_batches.load, root, download=download, report=typer.echo)


@app.command("train-resnet")
def train_resnet(
    synthetic: Synthetic = False,
    dataset_root: DatasetRoot = None,
    download: Download = False,
    epochs: Epochs = 1,
    batch_size: BatchSize = 64,
    eval_batch_size: EvalBatchSize = 500,
    max_batches: MaxBatches = None,
    eval_max_batches: EvalMaxBatches = None,
    mode: Annotated[str, typer.Option(help="fp32_baseline, strict_bitnet, chimera, ttq or lsq.")] = "chimera",
    optimizer: Annotated[str, typer.Option(help="adamw, sgd_momentum, chimera21, ...")] = "chimera21",
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.")] = 1e-2,
    weight_decay: Annotated[float, typer.Option(help="As the optimizer defines it.")] = 0.0,
    schedule: Schedule = "onecycle",
    activation: Annotated[str, typer.Option(help="int8, as_published (stops the gradient) or none.")] = "int8",
    alpha_target: Annotated[
        float | None, typer.Option(help="Threshold of chimera after its warm-up; default 0.7.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Of chimera and strict_bitnet: gamma, as published (default), or optimal.")
    ] = None,
    controller: Annotated[
        str | None, typer.Option(help="Of chimera: bang-bang, as published (default), one-shot or none.")
    ] = None,
    target_bits: Annotated[
        float | None, typer.Option(help="Entropy that the controller aims at, bits a weight; default 1.32.")
    ] = None,
    controller_frequency: Annotated[str | None, typer.Option(help="epoch (default) or batch.")] = None,
    controller_affects: Annotated[str | None, typer.Option(help="alpha_target (default) or alpha_override.")] = None,
    seed: Annotated[int, typer.Option(help="Of order and crops, and of the weights.", callback=at_least(0))] = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    save_checkpoint: Annotated[
        Path | None, typer.Option(help="Write this after every epoch; go on from it if it exists.", callback=file)
    ] = None,
    log_jsonl: LogJsonl = None,
    record: Record = None,
) -> None:
    """Train CIFAR's ResNet-20 and evaluate it after every epoch."""
    given = {name: value for name, value in locals().items() if name in RECIPE and value is not None}
    refuse_unused(mode, given)
    if mode == "chimera":
        given.setdefault("controller", "bang-bang")
    import torch

    from chimera_lib import devices, recorded
    from chimera_lib.ternary.allocator import keep_memory
    from chimera_lib.ternary.experiments import log, training
    from chimera_lib.ternary.experiments.recipe import Recipe

    recipe = Recipe(**given)
    devices.check_device(device)
    splits = source_of(synthetic, dataset_root, download)()
    torch.set_num_threads(threads)
    keep_memory()
    with log.Log(log_jsonl, "train-resnet", schema="resnet") as lines:
        outcome = training.train(recipe, splits, lines, device=device, checkpoint=save_checkpoint, report=typer.echo)
    if math.isfinite(outcome.median_step_ms):
        typer.echo(f"{outcome.median_step_ms:.0f} ms a step (median, without the first {training.WARMUP_STEPS})")
    if record:
        accuracy = {"value": outcome.test.accuracy, "n": outcome.test.n, "ci": outcome.test.ci}
        recorded.write(
            record, recorded.command_line(), {"accuracy": accuracy, "loss": outcome.test.loss, "data": splits.name}
        )
        typer.echo(f"metrics in {record}")


RECIPE = (
    *("mode", "optimizer", "learning_rate", "weight_decay", "activation", "epochs", "batch_size", "eval_batch_size"),
    *("max_batches", "eval_max_batches", "schedule", "alpha_target", "scale", "controller", "target_bits"),
    *("controller_frequency", "controller_affects", "seed"),
)


CONTROLLED = ("controller", "target_bits", "controller_frequency", "controller_affects")
ONLY = {"chimera": ("alpha_target", "scale", *CONTROLLED), "strict_bitnet": ("scale",)}


def refuse_unused(mode: str, given: dict[str, Any]) -> None:
    """Raise ChimeraError for an option of another mode, which would be ignored."""
    for name in ("alpha_target", "scale", *CONTROLLED):
        if name in given and name not in ONLY.get(mode, ()):
            users = " and ".join(other for other, names in ONLY.items() if name in names)
            raise ChimeraError(
                f"--{name.replace('_', '-')} is an option of {users}, and --mode is {mode}: leave it out"
            )


@app.command("cifar-ablation")
def cifar_ablation(
    synthetic: Synthetic = False,
    dataset_root: DatasetRoot = None,
    download: Download = False,
    epochs: Epochs = 1,
    batch_size: BatchSize = 64,
    eval_batch_size: EvalBatchSize = 500,
    max_batches: Annotated[int, typer.Option(help="Steps an epoch at most; 0: all.", callback=at_least(0))] = 250,
    eval_max_batches: Annotated[
        int, typer.Option(help="Evaluation batches at most; 0: all.", callback=at_least(0))
    ] = 10,
    weight_decay: Annotated[float, typer.Option(help="As each optimizer defines it.")] = 0.0,
    optimizers: Annotated[str, typer.Option(help="With commas between; the gate and its peers where empty.")] = "",
    modes: Annotated[str, typer.Option(help="With commas between; full precision, BitNet, Chimera where empty.")] = "",
    activations: Annotated[str, typer.Option(help="With commas between: none, int8, as_published.")] = "none,int8",
    seeds: Seeds = 3,
    learning_rate: Annotated[float | None, typer.Option(help="For every cell; where not given, it is tuned.")] = None,
    tuning_batches: Annotated[
        int, typer.Option(help="Steps of the runs that choose a learning rate.", callback=at_least(1))
    ] = 100,
    schedule: Schedule = "onecycle",
    device: Device = "cpu",
    jobs: Annotated[int, typer.Option(help="Processes, of one thread each.", callback=at_least(1))] = 1,
    output: Annotated[
        Path, typer.Option(help="Folder of the runs' rows; a second run goes on.", callback=folder)
    ] = Path("out/cifar-ablation"),
    log_jsonl: LogJsonl = None,
    record: Record = None,
) -> None:
    """Cross optimizer, quantizer and activation quantization on CIFAR-10, with the same seeds in every cell.

    Learning rates are chosen for each optimizer and quantizer from one grid, on training images held out.
    """
    import uuid

    from chimera_lib.ternary.experiments import ablation, effects
    from chimera_lib.ternary.experiments.recipe import Recipe

    shared: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "max_batches": max_batches or None}
    shared |= {"eval_batch_size": eval_batch_size, "eval_max_batches": eval_max_batches or None, "schedule": schedule}
    chosen = tuple(names("--optimizers", optimizers)) if optimizers else ablation.OPTIMIZERS
    quantizers = tuple(names("--modes", modes)) if modes else ablation.MODES
    design = ablation.Design(
        Recipe(**shared, weight_decay=weight_decay),
        optimizers=chosen,
        modes=quantizers,
        activations=tuple(names("--activations", activations)),
        seeds=tuple(range(seeds)),
        tuning_batches=tuning_batches,
        rates=None if learning_rate is None else dict.fromkeys(itertools.product(chosen, quantizers), learning_rate),
        device=device,
    )
    source = source_of(synthetic, dataset_root, download)
    rows = ablation.run(design, source, output, jobs=jobs, log=(log_jsonl, uuid.uuid4().hex[:12]), report=typer.echo)
    typer.echo(effects.as_text(rows))
    if record:
        effects.write_record(record, rows)
        typer.echo(f"metrics in {record}")
