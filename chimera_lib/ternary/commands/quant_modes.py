"""The verb ``compare-quant-modes``: the ternary quantizers under the same seed, shape, data, target and optimizer."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least, names
from chimera_lib.ternary.commands.options import LogJsonl, Record, Seeds, Steps, app

EVERY = "fp32_baseline,strict_bitnet,chimera,ttq,lsq"

MOST_ALPHA = 1000  # times the mean magnitude: every weight is zero long before


@app.command()
def compare_quant_modes(
    steps: Steps = 300,
    seeds: Seeds = 5,
    modes: Annotated[str, typer.Option(help="Quantizers, with commas between.")] = EVERY,
    learning_rate: Annotated[
        str, typer.Option(help="Of Adam, the same for all; of several, each takes its best on held-out data.")
    ] = "0.003",
    alpha_target: Annotated[
        float | None,
        typer.Option(help="Threshold of chimera after its warm-up, in units of gamma (0.7).", callback=at_least(0)),
    ] = None,
    target_bits: Annotated[
        float | None, typer.Option(help="Aim chimera at this entropy instead, in bits, at most log2 3.")
    ] = None,
    scale: Annotated[str, typer.Option(help="What a code of 1 stands for: gamma, optimal, or both.")] = "gamma,optimal",
    activation: Annotated[
        str, typer.Option(help="Inputs: int8, as_published (int8 that stops the gradient), none; with commas between.")
    ] = "int8,as_published",
    log_jsonl: LogJsonl = None,
    record: Record = None,
) -> None:
    """Compare ternary quantizers on handwritten digits: two BitLinear layers, seed by seed.

    A log's field `mode` is the cell: the mode, followed by the scale and activation where they are not gamma and int8.
    """
    rates = tuple(dict.fromkeys(positive("--learning-rate", part) for part in names("--learning-rate", learning_rate)))
    refuse_bad_aim(alpha_target, target_bits)
    for option, value in (("--alpha-target", alpha_target), ("--target-bits", target_bits)):
        if value is not None and "chimera" not in names("--modes", modes):
            raise ChimeraError(f"{option} is an option of chimera, which is not among --modes {modes}: leave it out")
    import torch

    from chimera_lib import recorded
    from chimera_lib.ternary.experiments import digits, quant_report
    from chimera_lib.ternary.experiments import quant_comparison as comparison
    from chimera_lib.ternary.experiments.log import Log

    chosen = comparison.cells(names("--modes", modes), names("--scale", scale), names("--activation", activation))
    setting = comparison.Setting(
        steps=steps,
        learning_rates=rates,
        alpha_target=0.7 if alpha_target is None else alpha_target,
        target_bits=target_bits,
    )
    torch.set_num_threads(1)  # the number of threads changes the last bits
    with Log(log_jsonl, "compare-quant-modes") as log:
        runs = comparison.compare(
            chosen, range(seeds), setting, digits.load(), log=log if log_jsonl else None, report=typer.echo
        )
    typer.echo(quant_report.as_text(runs))
    if record:
        recorded.write(record, recorded.command_line(), quant_report.metrics(runs))
        typer.echo(f"metrics in {record}")


def positive(option: str, text: str) -> float:
    """A finite number above 0. Raises ChimeraError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ChimeraError(f"{option} {text!r}: expected numbers above 0 with commas between, such as 0.001,0.01")
    return value


def refuse_bad_aim(alpha_target: float | None, target_bits: float | None) -> None:
    """Raise ChimeraError for a threshold or an entropy out of range, and for both at once."""
    if alpha_target is not None and not alpha_target <= MOST_ALPHA:
        raise ChimeraError(f"--alpha-target {alpha_target}: expected a threshold from 0 to {MOST_ALPHA}, such as 0.7")
    if target_bits is None:
        return
    if alpha_target is not None:
        raise ChimeraError("--alpha-target and --target-bits: expected one of them, both set the threshold")
    if not 0 < target_bits <= math.log2(3):
        raise ChimeraError(
            f"--target-bits {target_bits}: expected more than 0 and at most log2 3 = {math.log2(3):.4f}, such as 1.32"
        )
