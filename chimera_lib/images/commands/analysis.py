"""The verbs of ``chimera images analyze``: what chimeras are made of, and how rare they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.images.commands.options import ModelName, Record, app, at_least, load_model, names, test_images

if TYPE_CHECKING:
    from collections.abc import Mapping

analyze = typer.Typer(help="Explain chimeras: criteria, pockets, layers, prevalence, transfer.", no_args_is_help=True)
app.add_typer(analyze, name="analyze")

LIBRARIES = "openblas,blis,mkl,torch,onnxruntime,openvino,jax"


def write_record(path: Path | None, metrics: Mapping[str, Any], backends: Mapping[str, Mapping[str, str]]) -> None:
    """Write metrics for the table of figures, where a path was given."""
    from chimera_lib import recorded

    if path:
        recorded.write(path, recorded.command_line(), metrics, backends)
        typer.echo(f"metrics in {path}")


@analyze.command()
def prevalence(
    count: Annotated[int, typer.Option(help="CIFAR-10 test images to ask about.", callback=at_least(2))] = 10000,
    backends: Annotated[str, typer.Option(help="With commas between.")] = LIBRARIES,
    model: ModelName = "cifarvgg",
    output: Annotated[Path, typer.Option(help="Folder for the rows; a second run goes on there.")] = Path(
        "out/prevalence"
    ),
    record: Record = None,
) -> None:
    """Count conflicts on natural images, bound their rate exactly, and say what rate margins and noise predict."""
    from chimera_lib.images.analysis import prevalence as question
    from chimera_lib.images.oracle import Oracle

    images = test_images()
    if count > len(images):
        raise ChimeraError(f"--count {count}: expected at most {len(images)}")
    _, network = load_model(model)
    with Oracle(network, names(backends)) as oracle:
        rows = question.measure(images[:count], oracle, output)
        facts = oracle.info()
    found = question.summarise(rows)
    typer.echo(question.as_text(found))
    write_record(record, question.metrics(found, len(facts)), facts)
