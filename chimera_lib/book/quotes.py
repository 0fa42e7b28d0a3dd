"""Measured numbers in prose: `{{ images/03-strategies:rate|.1% }}` becomes `97.5%`; no number is typed by hand.

A reference names a notebook's metric, or one recorded by a long command: `{{ recorded/lattice:verified }}`.
`.n` behind the metric quotes its number of observations, `.ci` its interval. A format follows a bar: Python's, or
`sci`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chimera_lib import recorded
from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What looks like a reference: a path and a colon in double braces. TeX doubles braces too, but without those.
_LIKE_REFERENCE = re.compile(r"\{\{([^{}\n]*/[^{}\n]*:[^{}\n]*)\}\}")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_REFERENCE = re.compile(r"([\w./-]+/[\w.-]+):(\w+)(\.n|\.ci)?(?:\s*\|\s*(\S+))?")


@dataclass(frozen=True)
class Measurement:
    """One metric with what made it.

    Attributes:
        value: The number, truth value or text.
        n: Independent observations behind it, None where none were said.
        ci: (low, high) in the value's unit, None where none was said.
        command: The command line that makes it.
        date: Day it was measured, `YYYY-MM-DD`, or empty.
        machine: What it was measured on, or empty.
    """

    value: Any
    n: int | None
    ci: tuple[float, float] | None
    command: str
    date: str
    machine: str


class Metrics:
    """Every metric that the book may quote: those of its notebooks' runs, and those that long commands recorded."""

    def __init__(self, runs: Mapping[str, Path], recorded_folder: Path) -> None:
        """Take run folders by notebook name, and the folder of recorded metrics."""
        self._runs = runs
        self._folder = recorded_folder

    def get(self, reference: str) -> Measurement:
        """Find a metric by `PART/NOTEBOOK:METRIC` or `recorded/NAME:METRIC`.

        Raises:
            UnknownName: There is no such notebook, recording or metric.
            ChimeraError: The reference is none, or a recorded file is damaged.
        """
        source, colon, name = reference.partition(":")
        if not colon or not name:
            raise ChimeraError(f"{reference!r} is no metric: write PART/NOTEBOOK:METRIC or recorded/NAME:METRIC")
        if source.startswith("recorded/"):
            return self._recorded(source, name)
        if source not in self._runs:
            raise UnknownName("notebook in the book", source, self._runs)
        return _of_run(source, name, self._runs[source])

    def has(self, reference: str) -> bool:
        """Say whether `get` would find a metric."""
        try:
            self.get(reference)
        except UnknownName:
            return False
        return True

    def missing(self, reference: str) -> bool:
        """Say whether a reference is to a recording that nobody has made on any machine yet."""
        source = reference.partition(":")[0]
        return source.startswith("recorded/") and not self._path(source).is_file()

    def _path(self, source: str) -> Path:
        return self._folder / f"{source.removeprefix('recorded/')}.json"

    def _recorded(self, source: str, name: str) -> Measurement:
        content = recorded.read(self._path(source))
        return _measurement(source, name, content["metrics"], content["command"], content["date"], content["machine"])


def _of_run(source: str, name: str, folder: Path) -> Measurement:
    """Read a metric of a run's folder; date and machine are in its `environment.json` where the run noted them."""
    metrics = _json(folder / "metrics.json")
    environment = _json(folder / "environment.json")
    date = str(environment.get("date") or environment.get("started") or "")[:10]
    return _measurement(source, name, metrics, f"chimera run {source}", date, str(environment.get("machine") or ""))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _measurement(source: str, name: str, metrics: dict[str, Any], command: str, date: str, machine: str) -> Measurement:
    if name not in metrics:
        raise UnknownName(f"metric of {source}", name, metrics)
    entry = metrics[name]
    ci = tuple(entry["ci"]) if entry.get("ci") else None
    return Measurement(entry["value"], entry.get("n"), ci, command, date, machine)


def substitute(text: str, metrics: Metrics, where: str) -> str:
    """Put the measured values in place of the references in a page's text.

    Args:
        text: Markdown.
        metrics: Where to look references up.
        where: Name of the page, for errors.

    Raises:
        ChimeraError: A reference to no metric, or with a format that does not fit; names the page.
    """

    def value(match: re.Match[str]) -> str:
        """Give the text that a reference stands for."""
        parsed = _REFERENCE.fullmatch(match[1].strip())
        if not parsed:
            raise ChimeraError(
                f"{where}: {match[0]} is no reference to a metric: write {{{{ images/02-boundary:rate|.1% }}}}"
            )
        source, name, part, spec = parsed.groups()
        try:
            return quote(metrics.get(f"{source}:{name}"), part or "", spec or "")
        except (ChimeraError, ValueError) as error:
            raise ChimeraError(f"{where}: {match[0]}: {error}") from error

    return _LIKE_REFERENCE.sub(value, text)


def quote(measurement: Measurement, part: str = "", spec: str = "") -> str:
    """Say a measurement, its `.n` or its `.ci` as prose does.

    Raises:
        ChimeraError: The part was not measured.
        ValueError: The format does not fit the value.
    """
    if part == ".n":
        if measurement.n is None:
            raise ChimeraError("this metric was recorded without n")
        return format(measurement.n, spec)
    if part == ".ci":
        if measurement.ci is None:
            raise ChimeraError("this metric was recorded without an interval (ci)")
        return " to ".join(say(bound, spec) for bound in measurement.ci)
    return say(measurement.value, spec)


def say(value: Any, spec: str = "") -> str:
    """Write one value: yes or no for a truth value, four significant digits for a float without a format.

    The format `sci` writes two digits and a power of ten, as in 7.2e-07 said by people; all others are Python's.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not spec:
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else format(value, ".4g")
    if spec == "sci":
        digits, _, power = format(value, ".1e").partition("e")
        return f"{digits} \N{MULTIPLICATION SIGN} 10{str(int(power)).translate(_RAISED)}"
    return format(value, spec)
