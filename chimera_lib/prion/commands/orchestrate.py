"""``chimera prion orchestrate``: all conditions and runs of a priority, and the analysis of what they left."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from chimera_lib.errors import AssetMissing, ChimeraError, UnknownName
from chimera_lib.option_checks import at_least, between
from chimera_lib.prion.commands.options import Arm, LearningRate, OutputDir, Verbosity, app

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Setting
    from chimera_lib.prion.priorities import Condition

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
    """Do every run of a priority that is not done, then analyse them; a run that fails does not stop the others.

    A folder that holds runs of another arm, seed or number of steps is refused, and the analysis is of the runs of this
    call alone.
    """
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
    models = [_absolute(one) for one in model or ()]
    planned = [(one, number) for one in priorities.conditions(priority, arm, models) for number in numbers]
    rows = [
        {**dataclasses.asdict(one), "tuning": [one.tuning] if one.tuning else [], "run": number}
        for one, number in planned
    ]
    settings = [
        one.setting(faults.ARMS[arm], seed=seed + number, learning_rate=learning_rate, steps=steps, device=device)
        for one, number in planned
    ]
    targets = _targets(planned, settings, place / "raw_data")
    _check(targets, place / "raw_data", here=engine == "local")
    sweep = sweep_file.Sweep(
        name="runs", path=place, rows=tuple(rows), command=(*COMMAND, *map(str, words)), assets=("shakespeare",),
        engine=engine, address=address, jobs=jobs, output=str(place.absolute() / ".sweep"),
    )  # fmt: skip
    with progress.Progress() as report:
        quiet = verbosity == "quiet"
        summary = sweeps.run(sweep, notebooks.project_root(), report=_nothing if quiet else report)
    _gather(summary.rows(), targets, place)
    _analyse(priority, place, verbosity, only=[one.place.name for one in targets], absolute=faults.ARMS[arm].absolute)
    sweeps.complain(sweep, summary, str(place / ".sweep" / sweep.name))


def _nothing(_: object) -> None:
    """Report nothing."""


class _Target(NamedTuple):
    """A run that was asked for, and where it is to lie."""

    place: Path
    setting: Setting
    number: int
    suffix: bool


def _targets(planned: list[tuple[Condition, int]], settings: list[Setting], raw: Path) -> list[_Target]:
    """Where the runs are to lie. Raises ChimeraError where two would lie in one folder."""
    from chimera_lib.prion import run_folder

    found: dict[Path, _Target] = {}
    for (one, number), setting in zip(planned, settings, strict=True):
        suffix = one.control_type == "eigen_prion"
        place = run_folder.folder(raw, setting, number, suffix=suffix)
        if place in found:
            other = found[place].setting.model
            raise ChimeraError(f"--model {other} and --model {one.model}: expected models of different names")
        found[place] = _Target(place, setting, number, suffix)
    return list(found.values())


def _check(targets: list[_Target], raw: Path, *, here: bool) -> None:
    """Refuse models that are not there, and a folder with runs of other settings, before anything is run.

    Args:
        targets: what is to be run.
        raw: the folder that it goes into.
        here: on this machine; what another one lacks, its runs will say.

    Raises:
        UnknownName, AssetMissing, ChimeraError: saying which, and what to do.
    """
    from chimera_lib.devices import check_device
    from chimera_lib.prion import run_folder

    if here:
        check_device(targets[0].setting.device)
    for name in dict.fromkeys(one.setting.model for one in targets):
        try:
            _check_model(name)
        except AssetMissing:
            if here:
                raise
    for one in targets:
        run_folder.is_finished(one.place, one.setting, one.number)
    run_folder.refuse_others(raw, targets[0].setting, targets[0].number)


def _check_model(name: str) -> None:
    """Refuse a model that no run could load. Raises UnknownName, AssetMissing, ChimeraError."""
    from chimera_lib.prion import ladder, models, pythia, smollm

    if name in ladder.RUNGS:
        ladder.weights(name)
    elif (size := pythia.size_of(name)) is not None:
        pythia.find(size)
    elif name != smollm.NAME:
        models.local(name)


def _absolute(model: str) -> str:
    """A model's name; of a folder its whole path, since each run is made in a folder of its own."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() and not _is_known(model) else model


def _is_known(model: str) -> bool:
    from chimera_lib.prion import models, pythia

    return model in models.NAMES or pythia.size_of(model) is not None


def _gather(rows: list[dict[str, Any]], targets: list[_Target], place: Path) -> None:
    """Copy what each run left to ``raw_data``, say why a failed one left nothing, and sum up each series."""
    from chimera_lib.prion import run_folder

    raw = place / "raw_data"
    raw.mkdir(parents=True, exist_ok=True)
    for row, one in zip(rows, targets, strict=True):
        if row["folder"]:
            _replace(Path(row["folder"]) / one.place.name, one.place)
        elif row["why"]:
            run_folder.write_failure(one.place, one.setting, one.number, row["status"], row["why"])
        run_folder.aggregate(raw, one.setting, suffix=one.suffix)


def _replace(source: Path, target: Path) -> None:
    """Put a copy of a folder in place of another, whole."""
    partial = target.with_name(f".{target.name}")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(source, partial)
    partial.replace(target)


def _analyse(priority: int, place: Path, verbosity: str, *, only: list[str], absolute: bool) -> None:
    """Summarise the runs of these names; as magnitudes where the arm does so."""
    from chimera_lib.prion.analysis import groups, reader, report, summary

    notes: list[str] = []
    runs = reader.read(place, priority=priority, only=only, notes=notes)
    if priority == 1:  # the curve is of the catalyst's runs; the controls are in the folder for `analyze 2`
        runs = [run for run in runs if run.treatment == "eigen_prion"]
    compared = groups.split(runs, priority, notes=notes)
    found = summary.summarise(compared, priority, absolute=absolute, notes=notes)
    summary.write(found, place)
    if verbosity != "quiet":
        typer.echo(report.as_text(found))
