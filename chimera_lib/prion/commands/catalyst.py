"""The verb that makes a catalyst or a control, and measures its rho."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import Annotated, Any

import typer

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.option_checks import at_least, between, file, names
from chimera_lib.prion.commands.options import Record, app


@app.command("catalyst")
def catalyst(
    model: Annotated[str, typer.Option(help="The model it is for; several with commas between.")] = "neox-1m",
    kind: Annotated[str, typer.Option(help="eigen_prion, eigen_prion_hard, published, or a control.")] = "eigen_prion",
    length: Annotated[int, typer.Option(help="Tokens.", callback=between(3, 2048))] = 64,
    steps: Annotated[
        int | None, typer.Option(help="Of optimisation; default: the kind's own.", callback=at_least(0))
    ] = None,
    seed: Annotated[int, typer.Option(help="The first seed.", callback=at_least(0))] = 0,
    seeds: Annotated[int, typer.Option(help="So many catalysts, one a seed.", callback=between(1, 1000))] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Save it to this .safetensors file, with a JSON beside.", callback=file)
    ] = None,
    record: Record = None,
) -> None:
    """Make a catalyst or a control for a model and print its rho.

    rho is how sharp the loss on real text is along the step that the sequence asks for: 1 is what random tokens have.
    """
    from chimera_lib import recorded, stats
    from chimera_lib.prion import catalysts, corpus, models
    from chimera_lib.prion.catalysts import rho, storage

    wanted = names("--model", model)
    if kind not in catalysts.KINDS:
        raise UnknownName("catalyst", kind, catalysts.KINDS)
    if output and (len(wanted) > 1 or seeds > 1):
        raise ChimeraError(f"--output {output} takes one catalyst: give one --model, and leave out --seeds")
    if output and output.suffix != storage.SUFFIX:
        raise ChimeraError(f"--output {output}: expected a name that ends in {storage.SUFFIX}")
    if steps is not None and kind not in ("eigen_prion", "eigen_prion_hard", "published"):
        raise ChimeraError(f"--steps {steps}: {kind} is not optimised; leave it out")
    metrics: dict[str, Any] = {}
    for name in wanted:
        loaded = models.load(name)
        text = corpus.tokens("train", loaded.tokenizer)
        options: dict[str, Any] = {"length": length} | ({} if steps is None else {"steps": steps})
        found: dict[str, list[float]] = {"rho": [], "curvature": []}
        for one in range(seed, seed + seeds):
            made = catalysts.make(kind, loaded.model, loaded.tokenizer, text, seed=one, **options)
            measure = rho.scale(loaded.model, loaded.tokenizer, text, length=length, seed=one)
            curvature = measure.curvature(made.batch(0))
            found["curvature"].append(curvature)
            found["rho"].append(curvature / measure.reference)
            if "rho_fresh" in made.facts:
                found.setdefault("rho_fresh", []).append(made.facts["rho_fresh"])
            said = {key: value for key, value in made.facts.items() if key not in ("rho", "curvature")}
            more = "".join(f", {key} {value:.4g}" for key, value in said.items())
            typer.echo(f"{name} {kind} seed {one}: rho {found['rho'][-1]:.4f}, curvature {curvature:.4f}{more}")
            if output:
                beside = storage.save(output, made, {"model": name, "seed": one, "rho": found["rho"][-1], **options})
                typer.echo(f"saved as {output} and {beside}")
        key = f"{name}_{kind}".replace("-", "_").replace(".", "_")
        for metric, numbers in found.items():
            value = {"value": sum(numbers) / seeds, "n": seeds}
            metrics[f"{key}_{metric}"] = value | ({"ci": stats.student(numbers)} if seeds > 1 else {})
    if record:
        recorded.write(record, recorded.command_line(), metrics)
        typer.echo(f"metrics in {record}")
