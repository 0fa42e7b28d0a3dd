"""The verb ``analyze``: a folder of results, the original project's or ours, summarised, tested and drawn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  (Typer reads the annotations of a verb)
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least, between, folder, names
from chimera_lib.prion.commands.options import app

_LISTS = ("--models", "--treatments", "--optimizers", "--precisions")
_NUMBERS = {1: "--models", 2: "--treatments", 3: "--optimizers", 4: "--precisions"}


class FilterMethod(StrEnum):
    """Filters of outliers."""

    iqr = "iqr"
    zscore = "zscore"


class FilterMetric(StrEnum):
    """What a filter looks at."""

    rank_reduction = "rank_reduction"
    perplexity_increase = "perplexity_increase"
    perplexity_post = "perplexity_post"


class _Lists(TyperCommand):
    """A command whose lists may also be given as several words behind one option, as the source takes them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        lists: dict[str, list[str]] = {}
        current = ""
        for word in args:
            option, equals, value = word.partition("=")
            if option in _LISTS:
                current = option
                lists.setdefault(option, []).extend([value] if equals else [])
            elif current and not word.startswith("-"):
                lists[current].append(word)
            else:
                current = ""
                joined.append(word)
        for option, words in lists.items():
            if not words:
                raise ChimeraError(
                    f"{option} needs one or more names behind it, as in {option} one two or {option} one,two"
                )
            joined.append(f"{option}={','.join(words)}")
        return list(super().parse_args(ctx, joined))


@app.command(cls=_Lists)
def analyze(
    priority: Annotated[
        int, typer.Argument(help="1 scaling law, 2 placebo, 3 mechanism, 4 shield.", callback=between(1, 4))
    ],
    results_dir: Annotated[Path, typer.Option(help="A folder of runs, or the one above its raw_data.")],
    output_dir: Annotated[Path, typer.Option(help="Where summary and figure go.", callback=folder)],
    models: Annotated[str | None, typer.Option(metavar="NAME ...", help="Of priority 1; all that are there.")] = None,
    model: Annotated[str | None, typer.Option(help="Of priorities 2 to 4; the only one that is there.")] = None,
    treatments: Annotated[str | None, typer.Option(metavar="NAME ...", help="Of priority 2.")] = None,
    optimizers: Annotated[str | None, typer.Option(metavar="NAME ...", help="Of priority 3.")] = None,
    precisions: Annotated[str | None, typer.Option(metavar="NAME ...", help="Of priority 4.")] = None,
    use_absolute: Annotated[
        bool,
        typer.Option(
            "--use-absolute/--no-absolute", help="Means of magnitudes, as published; signed ones stay beside."
        ),
    ] = False,
    filter_method: Annotated[
        FilterMethod | None, typer.Option(help="Say too what is left without outliers; the summary is of all runs.")
    ] = None,
    filter_metric: Annotated[
        FilterMetric | None, typer.Option(help="What the filter looks at (rank_reduction).")
    ] = None,
    filter_iqr_multiplier: Annotated[
        float | None, typer.Option(help="Interquartile ranges that iqr keeps (1.5).", callback=at_least(0))
    ] = None,
    filter_zscore_threshold: Annotated[
        float | None, typer.Option(help="Standard deviations that zscore keeps (3).", callback=at_least(0))
    ] = None,
    margin_rank: Annotated[float, typer.Option(help="Rank reduction that counts as none, percentage points.")] = 1.0,
    margin_log_perplexity: Annotated[
        float, typer.Option(help="Change of log-perplexity that counts as none, nats.")
    ] = 0.1,
) -> None:
    """Summarise, test and draw a folder of results, the original project's or ours.

    Lists take blanks or commas: --models 70m 160m or --models 70m,160m. The rank of a model counts as reduced where it
    falls: means are signed unless --use-absolute is given.
    """
    from chimera_lib.prion.analysis import groups, reader, report, summary
    from chimera_lib.prion.analysis.judged import Margins

    lists = {"--models": models, "--treatments": treatments, "--optimizers": optimizers, "--precisions": precisions}
    levels = _levels(priority, lists, model)
    chosen = _filter(filter_method, filter_metric, filter_iqr_multiplier, filter_zscore_threshold)
    for option, value in (("--margin-rank", margin_rank), ("--margin-log-perplexity", margin_log_perplexity)):
        if not 0 < value < float("inf"):
            raise ChimeraError(f"{option} {value}: expected a number above 0")
    notes: list[str] = []
    runs = reader.read(results_dir, priority=priority, notes=notes)
    compared = groups.split(runs, priority, levels=levels, model=model if priority > 1 else None, notes=notes)
    found = summary.summarise(
        compared,
        priority,
        absolute=use_absolute,
        chosen_filter=chosen,
        margins=Margins(margin_rank, margin_log_perplexity),
        notes=notes,
    )
    typer.echo(report.as_text(found))
    typer.echo("")
    for path in summary.write(found, output_dir):
        typer.echo(path)


def _levels(priority: int, lists: dict[str, str | None], model: str | None) -> list[str] | None:
    """The groups asked for. Raises ChimeraError for a list of another priority."""
    own = _NUMBERS[priority]
    for option, text in lists.items():
        if text is not None and option != own:
            hint = ": name one model with --model" if option == "--models" else f", which takes {own}"
            raise ChimeraError(f"{option} {text} is no option of priority {priority}{hint}")
    if priority == 1 and model is not None:
        if lists[own] is not None:
            raise ChimeraError(f"--model {model} and {own} {lists[own]}: expected one of them")
        return [model]
    text = lists[own]
    return None if text is None else names(own, text)


def _filter(
    method: FilterMethod | None, metric: FilterMetric | None, multiplier: float | None, threshold: float | None
) -> Any:
    """The filter asked for, or None. Raises ChimeraError for settings that nothing reads."""
    from chimera_lib.prion.analysis.filters import Filter

    given = {"--filter-metric": metric, "--filter-iqr-multiplier": multiplier, "--filter-zscore-threshold": threshold}
    unread = {None: list(given), "iqr": ["--filter-zscore-threshold"], "zscore": ["--filter-iqr-multiplier"]}
    for option in unread[None if method is None else method.value]:
        if given[option] is not None:
            way = "choose one with --filter-method" if method is None else f"the filter is {method.value}"
            raise ChimeraError(f"{option} {given[option]} would not be read: {way}")
    if method is None:
        return None
    return Filter(
        method.value,
        "rank_reduction" if metric is None else metric.value,
        1.5 if multiplier is None else multiplier,
        3.0 if threshold is None else threshold,
    )
