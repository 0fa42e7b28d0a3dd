"""The ``chimera data`` verbs: what data and weights there are, fetching them, checking them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (Typer reads the annotations)
from typing import Annotated

import typer

from chimera_lib import assets
from chimera_lib.errors import ChecksumMismatch, ChimeraError

app = typer.Typer(help="Data sets and weights: list, fetch, verify.", rich_markup_mode=None, no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Show every asset: size, whether it is in the cache, licence, what it is."""
    width = max(len(name) for name in assets.ASSETS)
    for asset in assets.ASSETS.values():
        state = "in the cache" if assets.present(asset.name) else "not fetched"
        size = f"{assets.megabytes(asset.size):>8}"
        typer.echo(f"{asset.name:<{width}}  {asset.version:<5}  {size}  {state:<12}  {asset.what}; {asset.licence}")
    typer.echo(f"cache: {assets.root()} (CHIMERA_DATA chooses another)")


@app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(help="Assets to bring into the cache, as `chimera data list` names them.")
    ],
    source: Annotated[
        Path | None, typer.Option("--from", help="A folder with a copy of it; nothing is then downloaded.")
    ] = None,
) -> None:
    """Bring assets into the cache; what is there already and sound is left alone."""
    for name in names:
        assets.get(name)  # a mistyped name is said before anything is downloaded
    if source is not None and len(names) != 1:
        raise ChimeraError(f"--from takes one asset at a time, got {len(names)}: {', '.join(names)}")
    for name in names:
        assets.fetch(name, source, report=typer.echo)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Assets to read again; all in the cache if none.")] = None,
) -> None:
    """Read assets in the cache byte by byte and compare their checksums."""
    chosen = names or [name for name in assets.ASSETS if assets.present(name)]
    bad = []
    for name in chosen:
        try:
            typer.echo(f"{name}: sound ({assets.verify(name)})")
        except ChecksumMismatch as error:
            bad.append(name)
            typer.echo(f"{name}: damaged: {error}")
    if bad:
        raise ChecksumMismatch(f"damaged: {', '.join(bad)}; replace with: chimera data fetch {' '.join(bad)}")
    if not chosen:
        typer.echo(f"nothing in {assets.root()} yet; chimera data list shows what there is to fetch")
