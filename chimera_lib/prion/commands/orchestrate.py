"""``chimera prion orchestrate``: all conditions and runs of a priority, and the analysis of what they left."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera_lib.errors import UnknownName
from chimera_lib.option_checks import at_least, between
from chimera_lib.prion.commands.options import Arm, LearningRate, OutputDir, Verbosity, app

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Setting

COMMAND = (
    "prion", "run", "--model", "{model}", "--quantization", "{quantization}", "{tuning}", "--optimizer", "{optimizer}",
    "--control-type", "{control_type}", "--first-run", "{run}", "--num-runs", "1", "--verbosity", "quiet",
    "--output-dir", "{output}",
)  # fmt: skip


@app.command()
def orchestrate(
    priority: Annotated[
        int, typer.Option(help="1 scaling law, 2 placebo, 3 mechanism, 4 shield.", callback=between(1, 4))
    ],
    num_runs: Annotated[int | None, typer.Option(help="Default: 10 for 1, 3 for 2 to 4.", callback=at_least(1))] = None,
    seed: Annotated[int, typer.Option(help="Base seed; run r has the seed plus r.", callback=at_least(0))] = 42,
    model: Annotated[
        list[str] | None, typer.Option(help="As in `prion run`; repeatable with priority 1, whose sizes they are.")
    ] = None,
    arm: Arm = "corrected",
    learning_rate: LearningRate = None,
    steps: Annotated[int, typer.Option(help="Fine-tuning steps.", callback=at_least(0))] = 100,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="The Ray cluster; default: a Ray of this machine.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", callback=at_least(1))] = 1,
    verbosity: Verbosity = "normal",
    output_dir: OutputDir = Path("out/prion"),
) -> None:
    """Do every run of a priority that is not done, then analyse them; a run that fails does not stop the others."""
    from chimera_lib.prion import faults, priorities
    from chimera_lib.runs import notebooks, progress, sweep_file
    from chimera_lib.runs import sweep as sweeps

    if arm not in faults.ARMS:
        raise UnknownName("arm", arm, faults.ARMS)
    if verbosity not in ("quiet", "normal", "verbose"):
        raise UnknownName("verbosity", verbosity, ("quiet", "normal", "verbose"))
    place = output_dir / f"priority{priority}_{priorities.NAMES[priority]}"
    words: tuple[Any, ...] = ("--arm", arm, "--seed", seed, "--steps", steps, "--device", device)
    if learning_rate is not None:
        words += ("--learning-rate", learning_rate)
    numbers = range(1, (num_runs or priorities.RUNS[priority]) + 1)
    planned = [(one, number) for one in priorities.conditions(priority, arm, model or ()) for number in numbers]
    rows = [
        {**dataclasses.asdict(one), "tuning": [one.tuning] if one.tuning else [], "run": number}
        for one, number in planned
    ]
    settings = [
        one.setting(faults.ARMS[arm], seed=seed + number, learning_rate=learning_rate, steps=steps, device=device)
        for one, number in planned
    ]
    sweep = sweep_file.Sweep(
        name="runs", path=place, rows=tuple(rows), command=(*COMMAND, *map(str, words)), assets=("shakespeare",),
        engine=engine, address=address, jobs=jobs, output=str(place.absolute() / ".sweep"),
    )  # fmt: skip
    with progress.Progress() as report:
        quiet = verbosity == "quiet"
        summary = sweeps.run(sweep, notebooks.project_root(), report=_nothing if quiet else report)
    _gather(summary.rows(), settings, place)
    _analyse(priority, place, verbosity)
    sweeps.complain(sweep, summary, str(place / ".sweep" / sweep.name))


def _nothing(_: object) -> None:
    """Report nothing."""


def _gather(rows: list[dict[str, Any]], settings: list[Setting], place: Path) -> None:
    """Copy what each run left to ``raw_data``, say why a failed one left nothing, and sum up each series."""
    from chimera_lib.prion import run_folder

    raw = place / "raw_data"
    raw.mkdir(parents=True, exist_ok=True)
    for row, setting in zip(rows, settings, strict=True):
        number, suffix = row["values"]["run"], row["values"]["control_type"] == "eigen_prion"
        target = run_folder.folder(raw, setting, number, suffix=suffix)
        if row["folder"]:
            _replace(Path(row["folder"]) / target.name, target)
        elif row["why"]:
            run_folder.write_failure(target, setting, number, row["status"], row["why"])
        run_folder.aggregate(raw, setting, suffix=suffix)


def _replace(source: Path, target: Path) -> None:
    """Put a copy of a folder in place of another, whole."""
    partial = target.with_name(f".{target.name}")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, partial)
    partial.replace(target)


def _analyse(priority: int, place: Path, verbosity: str) -> None:
    from chimera_lib.prion.analysis import groups, reader, report, summary

    notes: list[str] = []
    runs = reader.read(place, priority=priority, notes=notes)
    if priority == 1:  # the curve is of the catalyst's runs; the controls are in the folder for `analyze 2`
        runs = [run for run in runs if run.treatment == "eigen_prion"]
    found = summary.summarise(groups.split(runs, priority, notes=notes), priority, notes=notes)
    summary.write(found, place)
    if verbosity != "quiet":
        typer.echo(report.as_text(found))
