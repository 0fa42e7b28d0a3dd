"""``chimera prion train`` and ``ladder``: make the miniature models, and say how good each is on held-out text."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import Annotated

import typer

from chimera_lib.errors import AssetMissing
from chimera_lib.option_checks import at_least, folder
from chimera_lib.prion.commands.options import Record, app


@app.command()
def train(
    model: Annotated[str, typer.Option(help="neox-0.3m, neox-1m, neox-3m or neox-8m.")] = "neox-0.3m",
    seed: Annotated[int, typer.Option(help="Of the first weights and the passages.", callback=at_least(0))] = 0,
    steps: Annotated[int, typer.Option(help="Where to give up.", callback=at_least(1))] = 12_000,
    output: Annotated[Path | None, typer.Option(help="Folder; default: the data cache, where it is found.")] = None,
) -> None:
    """Train a model of the ladder to the common loss and the common number of tokens; goes on where it was stopped."""
    from chimera_lib.prion import ladder, ladder_training

    ladder.config(model)
    target = folder(output or ladder.cache())
    for one in ladder_training.train(model, folder=target, seed=seed, most_steps=steps):
        facts = one.facts
        typer.echo(f"{one.file} · {facts['tokens']:,} tokens · {facts['dev_loss']:.3f} nats on the development play")


@app.command("ladder")
def ladder_table(record: Record = None) -> None:
    """Score every checkpoint of the ladder that is there on the two test plays."""
    from chimera_lib import recorded, stats
    from chimera_lib.prion import corpus, ladder, ladder_training

    metrics: dict[str, object] = {}
    for name in ladder.RUNGS:
        for checkpoint in ladder.CHECKPOINTS:
            try:
                model, tokenizer = ladder.load(name, checkpoint)
            except AssetMissing:
                typer.echo(f"{name} {checkpoint}: not trained here (chimera prion train --model {name})")
                continue
            ids = corpus.tokens("test", tokenizer)
            scores = ladder_training.passage_losses(model, ids).numpy()
            mean, n = float(scores.mean()), len(scores)
            low, high = stats.bootstrap(scores, statistic="mean")
            key = f"{name}_{checkpoint}".replace("-", "_").replace(".", "_")
            metrics[f"{key}_test_loss"] = {"value": mean, "n": n, "ci": [low, high]}
            metrics[f"{key}_tokens"] = ladder.card(name, checkpoint)["tokens"]
            typer.echo(f"{name} {checkpoint}: {mean:.3f} nats a token [{low:.3f}, {high:.3f}], {n} passages")
    if record is not None:
        recorded.write(record, recorded.command_line(), metrics)
