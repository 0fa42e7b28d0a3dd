"""The verbs on precision and memory: what an attack needs, and whether quantised gradients are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera_lib.option_checks import at_least, between, names
from chimera_lib.prion.commands.options import Record, app

if TYPE_CHECKING:
    from chimera_lib.prion.measured_memory import Measured
    from chimera_lib.prion.memory import Estimate

CPU_PARAMETERS = 200_000_000  # the largest model that is measured without a GPU


@app.command("memory")
def memory(
    model: Annotated[str, typer.Option(help="A name as --model of run, or a folder.")] = "2.8b",
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, 8bit or 4bit.")] = "bf16",
    tuning: Annotated[str, typer.Option(help="full or lora.")] = "full",
    optimizer: Annotated[str, typer.Option(help="adamw, adafactor, sgd or sgd-momentum.")] = "adafactor",
    length: Annotated[int, typer.Option(help="Tokens of a sequence.", callback=between(2, 2048))] = 64,
    batch: Annotated[int, typer.Option(help="Sequences of a step.", callback=between(1, 4096))] = 1,
    checkpointing: Annotated[bool, typer.Option(help="Compute each block again in the backward pass.")] = True,
    positions: Annotated[
        int, typer.Option(help="Positions that the loss sees at a time; 0: all.", callback=at_least(0))
    ] = 256,
    stepwise: Annotated[bool, typer.Option(help="Step each parameter once its gradient is there.")] = True,
    null_directions: Annotated[int, typer.Option(help="Null vectors that are kept.", callback=between(0, 1000))] = 3,
    offload: Annotated[bool, typer.Option(help="Keep those in the machine's memory.")] = True,
    within: Annotated[float, typer.Option(help="GB that the device has, to compare with.", callback=at_least(0))] = 24,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: cuda where there is one.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps that are measured.", callback=between(1, 1000))] = 3,
    random_weights: Annotated[
        bool, typer.Option("--random-weights/--load", help="Weights of the true shape, drawn; or load the model.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of weights and tokens.", callback=at_least(0))] = 0,
    record: Record = None,
) -> None:
    """Estimate what a fine-tuning attack takes, by part, and measure it where the machine can.

    It is the fine-tuning on a sequence that is there. A near-null catalyst is made before, on a copy in fp32, for
    models of a billion weights and more in the machine's memory: that is told apart.
    """
    from chimera_lib import recorded
    from chimera_lib.prion import measured_memory
    from chimera_lib.prion import memory as estimating

    settings: dict[str, Any] = {
        "precision": precision,
        "tuning": tuning,
        "optimizer": optimizer,
        "length": length,
        "batch": batch,
        "checkpointing": checkpointing,
        "positions": positions or None,
        "stepwise": stepwise,
    }
    guess = estimating.estimate(model, **settings, null_directions=null_directions, offload=offload)
    typer.echo(guess.text())
    typer.echo(f"  {'within' if guess.total <= within * 1e9 else 'more than'} {within:g} GB by the estimate")
    made = estimating.making(model)
    typer.echo(f"  making a near-null catalyst before that: about {made / 1e9:.1f} GB")
    where, reason = _where(device, guess)
    measured = None
    if where is None:
        typer.echo(f"not measured: {reason}")
    else:
        measured = measured_memory.measure(
            model, **settings, steps=steps, device=where, random_weights=random_weights, seed=seed
        )
        what = "largest of all tensors on the GPU" if where == "cuda" else "growth of process"
        typer.echo(f"measured in {steps} steps: {measured.peak / 1e9:.2f} GB ({what}), {measured.seconds:.1f} s each")
    if record is not None:
        recorded.write(record, recorded.command_line(), _metrics(model, guess, made, measured, within))


def _where(device: str | None, guess: Estimate) -> tuple[str | None, str]:
    """The device to measure on; or None, and why not."""
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and guess.parameters > CPU_PARAMETERS:
        return None, f"no CUDA GPU; without one, models of at most {CPU_PARAMETERS / 1e6:.0f} M parameters are"
    return device, ""


def _metrics(model: str, guess: Estimate, made: int, measured: Measured | None, within: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": model,
        "settings": guess.what,
        "parameters": guess.parameters,
        "estimated_gb": guess.total / 1e9,
        "offloaded_gb": guess.offloaded / 1e9,
        "making_catalyst_gb": made / 1e9,
        "limit_gb": float(within),
        "within_by_estimate": guess.total <= within * 1e9,
        "measured": measured is not None,
    }
    found |= {f"estimated_{name}_gb": size / 1e9 for name, size in guess.parts.items()}
    if measured is not None:
        found |= {
            "measured_gb": measured.peak / 1e9,
            "within": max(measured.peak, measured.reserved) <= within * 1e9,
            "estimated_over_measured": guess.total / measured.peak,
            "seconds_a_step": measured.seconds,
        }
    return found


@app.command("gradients")
def gradients(
    models: Annotated[str, typer.Option(help="Names or folders, with commas between.")] = "neox-1m,smollm2-135m",
    precisions: Annotated[str, typer.Option(help="Of 8bit and 4bit.")] = "8bit,4bit",
    length: Annotated[int, typer.Option(help="Tokens of a sequence.", callback=between(2, 2048))] = 32,
    seed: Annotated[int, typer.Option(help="Of adapters and tokens.", callback=at_least(0))] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    record: Record = None,
) -> None:
    """Compare the gradients of quantised models with those of the dequantised weights; the largest relative error."""
    from chimera_lib import recorded
    from chimera_lib.prion.gradient_agreement import gradient_agreement

    found: dict[str, Any] = {}
    for precision in names("--precisions", precisions):
        done = []
        for model in names("--models", models):
            one = gradient_agreement(model, precision, length=length, seed=seed, device=device)
            typer.echo(one.text())
            done.append(one)
        count = sum(len(one.before) for one in done)
        found[f"worst_{precision}"] = {"value": max(one.worst for one in done), "n": count}
        evaluated = [error for one in done for error in one.evaluation.values()]
        found[f"worst_{precision}_evaluation_mode"] = {"value": max(evaluated), "n": count}
        found[f"median_{precision}_evaluation_mode"] = {"value": sorted(evaluated)[count // 2], "n": count}
    for precision in names("--precisions", precisions):
        typer.echo(f"{precision}: at most {found[f'worst_{precision}']['value']:.2e} off in training mode")
    if record is not None:
        recorded.write(record, recorded.command_line(), found)
