"""The verb ``audit``: do a user's model and images disagree across this machine's backends?"""

from __future__ import annotations

import errno
import json
import traceback
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.images.commands.options import Seed, app, at_least, class_names, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chimera_lib.images.audit.report import Report


class FailOn(StrEnum):
    """What makes the exit status 1."""

    natural = "natural"
    searched = "searched"


@contextmanager
def during(what: str) -> Iterator[None]:
    """Turn whatever nobody expected into a ChimeraError: exit status 1 says that there are conflicts, nothing else.

    What the command line has its own words for passes, Ctrl-C among it.
    """
    try:
        yield
    except ChimeraError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and (error.filename or error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise
        *_, last = traceback.extract_tb(error.__traceback__)
        place = f"{Path(last.filename).name}:{last.lineno}"
        raise ChimeraError(f"{what} failed with {type(error).__name__}: {error} (at {place})") from error


@app.command()
def audit(
    model: Annotated[str, typer.Option(help="ONNX file, FILE.py:CALLABLE, PACKAGE.MODULE:CALLABLE, .npz or a name.")],
    images: Annotated[Path, typer.Option(help="Folder of images, searched with all below it.")],
    backends: Annotated[str, typer.Option(help="With commas between; one a library where empty.")] = "",
    output: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("out/audit"),
    limit: Annotated[int | None, typer.Option(help="The first so many images by name.", callback=at_least(1))] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Crop and scale images of another size.")] = False,
    input_size: Annotated[
        int | None, typer.Option(help="Side that a torch module takes; else the first image's.", callback=at_least(1))
    ] = None,
    normalise: Annotated[str, typer.Option(help="none, imagenet, half or m,m,m/s,s,s; pixels are 0 to 1.")] = "none",
    labels: Annotated[Path | None, typer.Option(help="Text file with a class's name in each line.")] = None,
    search: Annotated[
        int, typer.Option(help="Start so many searches for conflicts that can be made.", callback=at_least(0))
    ] = 0,
    evaluations: Annotated[
        int, typer.Option(help="Forward evaluations a search may cost.", callback=at_least(1))
    ] = 5000,
    fail_on: Annotated[FailOn, typer.Option(help="searched: exit status 1 for a conflict made, too.")] = FailOn.natural,
    timeout: Annotated[
        int, typer.Option(help="Seconds for a message of at most 32 images.", callback=at_least(1))
    ] = 600,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a summary.")] = False,
    seed: Seed = 0,
) -> None:
    """Tell whether a model and images disagree across backends.

    Exit status 0: no conflict; 1: conflicts among the images; 2: an error, or a backend lost before its last answer.
    """
    from chimera_lib import recorded
    from chimera_lib.images import audit as auditing
    from chimera_lib.images.audit import report, writing

    def size() -> tuple[int, int]:
        return (input_size, input_size) if input_size else auditing.first_size(images)

    if output.resolve() == images.resolve():
        raise ChimeraError(f"--output {output} is the folder of the images; name another, which need not exist")
    with during(f"reading the model {model}"):
        network = auditing.normalised(auditing.load(model, size), normalise)
    with during(f"reading the images in {images}"):
        called = _labels(labels, model)
        pictures = auditing.folder(images, network.input_shape, resize=resize, limit=limit, without=output)
    with during("asking the backends"):
        found = auditing.audit(
            network,
            pictures,
            names(backends) or None,
            search=search,
            evaluations=evaluations,
            seed=seed,
            keep=output / writing.UNFINISHED,
            started=lambda: writing.begin(output),
            timeout=timeout,
            progress=not json_,
        )
    with during("writing the report"):
        described = report.describe(
            found,
            pictures,
            searched=search,
            model=Path(model).name if Path(model).exists() else model,
            normalise=normalise,
            class_names=called,
            command=recorded.command_line(),
        )
        status = _status(described, fail_on)
        described = {**described, "exit_code": status}
        writing.write(found, pictures, output, described)
    for line in (
        [json.dumps(described, indent=2)] if json_ else [*report.lines(described), f"report: {output / 'report.html'}"]
    ):
        typer.echo(line)
    if status:
        raise typer.Exit(status)


def _status(described: Report, fail_on: FailOn) -> int:
    """1 for a conflict among the images, and for one that was made and confirmed where that is asked for.

    2 where there is none and a backend was lost: it might have disagreed.
    """
    made = described["made"]
    if described["conflicts"]["count"] or (fail_on is FailOn.searched and made and made["confirmed"]):
        return 1
    return 2 if any(one["answered"] < described["images"]["n"] for one in described["backends"]) else 0


def _labels(path: Path | None, model: str) -> Sequence[str] | None:
    """Class names from a file, or those of a shipped network."""
    from chimera_lib.images import models

    if path is None:
        return list(class_names(model)) if model in (*models.MODELS, models.PHOTOGRAPHS) else None
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ChimeraError(f"--labels {path}: {error}; expected a UTF-8 text file with a name in each line") from error
