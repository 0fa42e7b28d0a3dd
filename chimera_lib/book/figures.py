"""The table of figures: every bar the project set itself, what was measured, by which command, met or not.

The bars are listed in `book/figures.yml`; the measured values come from the notebooks' runs and from what long
commands recorded. Nothing on the page is typed by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib.book.quotes import Measurement, Metrics, say
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

_REQUIRED = ("id", "part", "text", "bar", "metric", "command")
_COLUMNS = ("What, and the command that measures it", "Bar", "Measured (95 % interval)", "Met", "Day, machine")
_OPTIONAL = ("at_least", "at_most", "format", "planned")


@dataclass(frozen=True)
class Figure:
    """One bar. `planned` says that its command is not in the library yet; `format` is how its value is written."""

    id: str
    part: str
    text: str
    bar: str
    metric: str
    command: str
    at_least: float | None = None
    at_most: float | None = None
    format: str = ""
    planned: bool = False

    def met(self, value: Any) -> bool | None:
        """Say whether a value meets the bar; None where the bar is only to measure."""
        if self.at_least is None and self.at_most is None:
            return None
        if isinstance(value, str):
            raise ChimeraError(f"figure {self.id!r} has a bar in numbers, and its metric {self.metric} is {value!r}")
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def load(path: Path) -> list[Figure]:
    """Read `figures.yml`.

    Raises:
        ChimeraError: It is no list of figures, one lacks a field or has a strange one, or two have one id.
    """
    import yaml

    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ChimeraError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ChimeraError(f"{path} must be a list of figures, each a mapping with {', '.join(_REQUIRED)}")
    seen = set()
    for row in rows:
        label = f"{path}: figure {row.get('id')!r}"
        if missing := [field for field in _REQUIRED if not row.get(field)]:
            raise ChimeraError(f"{label} lacks {', '.join(missing)}")
        if strange := set(row) - {*_REQUIRED, *_OPTIONAL}:
            raise ChimeraError(f"{label} has unknown fields {sorted(strange)}; known: {[*_REQUIRED, *_OPTIONAL]}")
        for field in ("at_least", "at_most"):
            if not isinstance(row.get(field, 0), int | float):
                raise ChimeraError(
                    f"{label}: {field} is {row[field]!r}, expected a number (YAML wants 1.0e-07, not 1e-07)"
                )
        if row["id"] in seen:
            raise ChimeraError(f"{label} is there twice; give each its own id")
        seen.add(row["id"])
    return [Figure(**row) for row in rows]


def page(figures: list[Figure], metrics: Metrics) -> str:
    """Write the table of figures as a MyST page.

    Raises:
        ChimeraError: A metric that a finished run or a recording should have and has not.
    """
    measured = {f.id: None if metrics.missing(f.metric) else metrics.get(f.metric) for f in figures}
    places = sorted({m.machine for m in measured.values() if m and m.machine})
    letters = {place: chr(ord("A") + i) for i, place in enumerate(places)}
    lines = [
        "# Table of figures",
        "",
        "Every bar that the project set itself beside what was measured. The build writes this page from the metrics"
        " of the notebooks that it has just run, and from those that long commands have recorded together with the"
        " day, the machine and the versions; no number here is typed by hand. A row without a command was measured by"
        " the one above it.",
    ]
    for part in dict.fromkeys(f.part for f in figures):
        rows = [f for f in figures if f.part == part]
        lines += ["", f"## {part}", "", *_table([(f, measured[f.id]) for f in rows], letters)]
    if places:
        lines += ["", "## Machines", "", *(f"- **{letters[place]}**: {place}" for place in places)]
    return "\n".join(lines) + "\n"


def _table(rows: list[tuple[Figure, Measurement | None]], letters: dict[str, str]) -> list[str]:
    lines = ["````{list-table}", ":header-rows: 1", ":class: table-of-figures", ""]
    table: list[tuple[str, ...]] = [_COLUMNS]
    told = ""
    for figure, measured in rows:
        command = _command(figure, measured)
        shown = _row(figure, measured, letters)
        # A column of its own would push the table off the page, and one command often measures several rows.
        what = f"{figure.text}\n\n    `{command}`" if command not in ("", told) else figure.text
        table.append((what, *shown))
        told = command
    for cells in table:
        lines += [f"{'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(cells)]
    return [*lines, "````"]


def _command(figure: Figure, measured: Measurement | None) -> str:
    """Give the command that made a number, or that would; nothing where the library has none yet."""
    # A recording says which command made it; for a notebook's metric it is the listed one that makes it anew.
    if measured is not None and figure.metric.startswith("recorded/"):
        return measured.command
    return "" if figure.planned else figure.command


def _row(figure: Figure, measured: Measurement | None, letters: dict[str, str]) -> tuple[str, ...]:
    if measured is None:
        return (figure.bar, "not in the library yet" if figure.planned else "not measured yet", "", "")
    verdict = {True: "✓ met", False: "✗ not met", None: "measured"}[figure.met(measured.value)]
    notes = [f"n = {measured.n}"] if measured.n is not None else []
    if measured.ci is not None:
        notes.append(" to ".join(say(bound, figure.format) for bound in measured.ci))
    value = f"**{say(measured.value, figure.format)}**" + (f" ({', '.join(notes)})" if notes else "")
    place = letters.get(measured.machine, "")
    return (figure.bar, value, verdict, ", ".join(filter(None, (measured.date, place))))
