"""The ``chimera`` command. It parses and calls; what is called lives in the packages.

Verbs of a part are loaded when they are used, so that ``chimera --help`` does not wait for the part's libraries.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, TyperException

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence

# name -> (module with an `app`, what the help says)
_LOADED_WHEN_USED = {
    "data": ("chimera_lib.data_commands", "Data sets and weights: list, fetch, verify."),
    "doctor": ("chimera_lib.doctor", "Say what this machine has: versions, processor, GPU, backends, assets, disk."),
    "images": (
        "chimera_lib.images.commands",
        "Chimera images: search, explain, audit a model, defend it, compare, submit.",
    ),
    "prion": (
        "chimera_lib.prion.commands",
        "Eigen-Prion: the published attack on language models, the corrected one, and their controls.",
    ),
    "sweep": ("chimera_lib.sweep_commands", "Run a grid of notebooks or commands, here or on a Ray cluster."),
    "ternary": (
        "chimera_lib.ternary.commands",
        "Chimera 2.1: compare optimizers and ternary quantizers, train a ResNet-20.",
    ),
}


class _Verbs(TyperGroup):
    """A group of commands some of which are imported only when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_LOADED_WHEN_USED]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _LOADED_WHEN_USED:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(importlib.import_module(_LOADED_WHEN_USED[cmd_name][0]).app)
        command.name = cmd_name
        # Completion is the affair of the whole command, not of a verb.
        command.params = [one for one in command.params if one.name not in ("install_completion", "show_completion")]
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  (Typer's signature)
        rows = [(name, self.commands[name].get_short_help_str(100)) for name in self.commands]
        rows += [(name, text) for name, (_, text) in _LOADED_WHEN_USED.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


class _PairedCommand(TyperCommand):
    """A command whose ``-p`` takes a name and a value, as papermill's does (Typer options take one word)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        words = iter(args)
        for word in words:
            if word not in ("-p", "--parameter"):
                joined.append(word)
                continue
            name = next(words, None)
            if name is not None and "=" not in name:
                value = next(words, None)
                name = None if value is None else f"{name}={value}"
            if name is None:
                raise ChimeraError(f"{word} needs a name and a value, as in -p steps 50")
            joined.append(f"--parameter={name}")
        return list(super().parse_args(ctx, joined))


app = typer.Typer(
    cls=_Verbs,
    help="Neural networks that disagree with themselves: run the notebooks, build the book, use the parts.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)

Output = Annotated[
    str | None, typer.Option(help="The folder of runs, or s3://bucket/folder; default: runs in the project.")
]
Jobs = Annotated[int, typer.Option(min=1, help="How many notebooks run at a time.")]


@app.command(cls=_PairedCommand)
def run(
    notebook: Annotated[list[str], typer.Argument(help="PART/NOTEBOOK, or a prefix that fits one, as images/02.")],
    profile: Annotated[str, typer.Option(help="Where the parameters come from: quick, full, ...")] = "quick",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME VALUE", help="Set a parameter; repeatable.")
    ] = None,
    output: Output = None,
    jobs: Jobs = 1,
    force: Annotated[bool, typer.Option("--force", help="Execute even what has been run, and replace it.")] = False,
    engine: Annotated[str, typer.Option(help="local: processes of this machine; ray: a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster, HOST:PORT or auto; default: a Ray of this machine.")
    ] = None,
) -> None:
    """Execute notebooks; an unchanged finished run is reused."""
    from chimera_lib.runs import cells, notebooks, parameters, progress
    from chimera_lib.runs.engine import run_cells

    root = notebooks.project_root()
    given = dict(pair.split("=", 1) for pair in parameter or [])
    asked = [cells.Cell(name, profile, parameters.parse(given, notebooks.find(name, root))) for name in notebook]
    where: dict[str, Any] = {"engine": engine, "address": address, "root": root, "output": output}
    with progress.Progress() as report:
        runs = run_cells(asked, jobs=jobs, force=force, report=report, **where)
    for one in runs:
        typer.echo(one.folder)


@app.command()
def runs(
    output: Output = None,
    profile: Annotated[str | None, typer.Option(help="Only the runs of this profile.")] = None,
) -> None:
    """List the finished runs with their headline metrics."""
    from chimera_lib.runs import notebooks, stores, table

    folder = output or notebooks.project_root() / "runs"
    found = [one for one in stores.open_store(folder).runs() if profile in (None, one.profile)]
    for line in table.table(found) if found else [f"no finished runs in {folder}; make one: chimera run images/01"]:
        typer.echo(line)


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="The profile whose runs the book shows.")] = "quick",
    output: Annotated[Path, typer.Option(help="Where the site goes.")] = Path("build"),
    jobs: Jobs = 1,
) -> None:
    """Execute the notebooks of the table of contents and build the site."""
    from chimera_lib import book as builder

    typer.echo(builder.build(profile=profile, output=output, jobs=jobs))


@app.command()
def pdf(
    page: Annotated[str, typer.Argument(help="A prose page of the book, as ternary-note.")],
    output: Annotated[Path | None, typer.Option(help="The file; default: build/PAGE.pdf.")] = None,
    build: Annotated[Path, typer.Option(help="Where `chimera book` put the book.")] = Path("build"),
) -> None:
    """Typeset a prose page of the built book as a PDF."""
    from chimera_lib.book.pdf import export

    typer.echo(export(page, output or build / f"{page}.pdf", stage=build / "stage"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0, or 2 with one line on what to mend, or 130 after Ctrl-C."""
    sys.exit(_status(arguments))


def _status(arguments: Sequence[str] | None) -> int:
    try:
        status = app(args=arguments, prog_name="chimera", standalone_mode=False)
    except ChimeraError as error:
        return _complain(str(error), 2)
    except TyperException as error:
        message = error.format_message()
        if message.startswith("Usage:"):  # a verb without arguments gets its help
            typer.echo(message)
            return error.exit_code
        return _complain(f"{message.rstrip('.')} (see {_path_of(error)} --help)", error.exit_code)
    except (KeyboardInterrupt, Abort):
        status = 130
    except BrokenPipeError:  # the reader of our output left, as in `chimera runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            if not error.filename:
                raise
            return _complain(f"{error.filename}: {error.strerror}; name another file or folder", 2)
        where = f" at {error.filename}" if error.filename else ""
        return _complain(f"no space left on the disk{where}; free some, or choose another folder by --output", 2)
    if status == 130:
        return _complain("interrupted; what was finished is kept, and the same command goes on from there", 130)
    return status if isinstance(status, int) else 0


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return status


def _path_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "chimera"


if __name__ == "__main__":
    main()
