"""``chimera prion run``: some runs of one setting, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import AssetMissing, ChimeraError, UnknownName
from chimera_lib.option_checks import at_least
from chimera_lib.prion.commands.options import Arm, LearningRate, Model, OutputDir, Verbosity, app

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Setting
    from chimera_lib.prion.faults import Faults

QUANTIZATIONS = ("none", "fp16", "bf16", "8bit", "4bit")
CONTROL_TYPES = (
    "none", "eigen_prion", "eigen_prion_hard", "gaussian_noise", "random_tokens", "random_text", "text_fixed",
    "random_fixed", "sham",
)  # fmt: skip


@app.command()
def run(
    model: Model = "neox-1m",
    quantization: Annotated[str, typer.Option(help=f"{', '.join(QUANTIZATIONS)}; none is fp32.")] = "none",
    num_runs: Annotated[int, typer.Option(help="Runs; run r has the seed plus r.", callback=at_least(1))] = 1,
    first_run: Annotated[int, typer.Option(help="Number of the first of them.", callback=at_least(1))] = 1,
    seed: Annotated[int, typer.Option(help="Base seed.", callback=at_least(0))] = 42,
    force_fft: Annotated[bool, typer.Option("--force-fft", help="Train all weights; quantised models cannot.")] = False,
    lora: Annotated[bool, typer.Option("--lora", help="Train LoRA adapters; quantised models always do.")] = False,
    optimizer: Annotated[str, typer.Option(help="adamw, adafactor, sgd or sgd-momentum.")] = "adamw",
    control_type: Annotated[
        str, typer.Option(help=f"What the model is shown: {', '.join(CONTROL_TYPES)}. none is the catalyst alone.")
    ] = "none",
    arm: Arm = "corrected",
    mend: Annotated[list[str] | None, typer.Option(help="Take this fault out of the arm; repeatable.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="Bring this fault into the arm; repeatable.")] = None,
    learning_rate: LearningRate = None,
    steps: Annotated[int, typer.Option(help="Fine-tuning steps.", callback=at_least(0))] = 100,
    length: Annotated[int, typer.Option(help="Tokens of the catalyst.", callback=at_least(3))] = 64,
    checkpoint: Annotated[str, typer.Option(help="Of neox-*: matched-loss or matched-tokens.")] = "matched-loss",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    verbosity: Verbosity = "normal",
    output_dir: OutputDir = Path("out/prion"),
) -> None:
    """Measure a model, train it on a catalyst or a control, measure it again; finished runs are not done twice."""
    from chimera_lib.prion import optimizers, priorities

    if optimizer not in optimizers.NAMES:
        raise UnknownName("optimizer", optimizer, optimizers.NAMES)
    if control_type not in CONTROL_TYPES:
        raise UnknownName("control type", control_type, CONTROL_TYPES)
    tuning = _tuning(quantization, force_fft, lora)
    setting = priorities.Condition(model, quantization, tuning, optimizer, control_type).setting(
        _faults(arm, mend or [], fault or []), seed=seed, learning_rate=learning_rate, steps=steps, length=length,
        checkpoint=checkpoint, device=device,
    )  # fmt: skip
    numbers = range(first_run, first_run + num_runs)
    repeat(setting, numbers, output_dir, suffix=control_type == "eigen_prion", verbosity=verbosity)


def repeat(setting: Setting, numbers: range, root: Path, *, suffix: bool, verbosity: str) -> None:
    """Do the runs of these numbers, each with the setting's seed plus its number, and sum them up.

    Raises:
        ChimeraError: a run failed, of whatever error; the others were done, and the same command tries it again.
    """
    import functools
    import gc
    from dataclasses import replace

    from chimera_lib.prion import chunked_loss, experiment, memory, run_folder

    if verbosity not in ("quiet", "normal", "verbose"):
        raise UnknownName("verbosity", verbosity, ("quiet", "normal", "verbose"))
    guess = memory.estimate(  # refuses a model that is not there, before any run is marked as failed
        setting.model, precision=setting.precision, tuning=setting.tuning, optimizer=setting.method,
        length=setting.length, checkpointing=setting.lean, stepwise=setting.lean,
        positions=chunked_loss.POSITIONS if setting.lean else None,
    )  # fmt: skip
    _tell(guess.text(), verbosity, 1 if setting.lean else 2)
    failed: list[str] = []
    for number in numbers:
        one = replace(setting, seed=setting.seed + number)
        place = run_folder.folder(root, one, number, suffix=suffix)
        if run_folder.is_finished(place, one, number):
            _tell(f"{place.name} · there already", verbosity)
            continue
        try:
            stages = functools.partial(_stage, place.name, verbosity)
            outcome = experiment.run(one, trail=experiment.TRAIL, weights=True, on_stage=stages)
            run_folder.write(place, outcome, number)
        except (AssetMissing, UnknownName):  # no run of this setting could work
            raise
        except Exception as error:  # noqa: BLE001  (whatever one run ends of, the others are made)
            why = _why(error)
            run_folder.write_failure(place, one, number, type(error).__name__, why)
            failed.append(f"run {number}: {why}")
            _tell(f"{place.name} · failed: {why}", verbosity)
        else:
            rank, loss = outcome.headline, outcome.log_perplexity_change
            _tell(f"{place.name} · rank reduction {rank:.2f} % · log-perplexity {loss:+.3f}", verbosity)
        gc.collect()
    if len(failed) < len(numbers):
        run_folder.aggregate(root, setting, suffix=suffix)
    if failed:
        # Where they lie is not said: a sweep's cell writes into a folder that is gone when this is read.
        others = "" if len(failed) == len(numbers) else "; the others are done, and the same command tries these again"
        raise ChimeraError(f"{len(failed)} of {len(numbers)} runs failed ({'; '.join(failed)}){others}")


def _why(error: Exception) -> str:
    """What went wrong, in one line; an error that is not ours is named too."""
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return said or "out of memory"
    return said if isinstance(error, ChimeraError) else f"{type(error).__name__}: {said}".removesuffix(": ")


def _stage(name: str, verbosity: str, stage: str) -> None:
    _tell(f"{name} · {stage}", verbosity, least=2)


def _tell(text: str, verbosity: str, least: int = 1) -> None:
    if ("quiet", "normal", "verbose").index(verbosity) >= least:
        typer.echo(text)


def _tuning(quantization: str, force_fft: bool, lora: bool) -> str:
    if quantization not in QUANTIZATIONS:
        raise UnknownName("quantization", quantization, QUANTIZATIONS)
    quantised = quantization in ("4bit", "8bit")
    if force_fft and (quantised or lora):
        what = f"--quantization {quantization}" if quantised else "--lora"
        raise ChimeraError(f"--force-fft with {what}: choose one; quantised weights take no gradients")
    return "--lora" if lora else "--force-fft" if not quantised else ""


def _faults(arm: str, mend: list[str], fault: list[str]) -> Faults:
    from chimera_lib.prion import faults

    if arm not in faults.ARMS:
        raise UnknownName("arm", arm, faults.ARMS)
    return faults.ARMS[arm].without(*mend).having(*fault)
