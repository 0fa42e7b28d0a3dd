"""Numbers in prose come from metrics, in the format asked for, or stop the build."""

from pathlib import Path

import pytest

from chimera_lib import recorded
from chimera_lib.book.quotes import Metrics, say, substitute
from chimera_lib.errors import ChimeraError


@pytest.fixture
def metrics(runs: dict[str, Path], tmp_path: Path) -> Metrics:
    recorded.write(tmp_path / "recorded" / "long.json", "chimera long", {"score": 1.0, "label": "horse", "whole": True})
    return Metrics(runs, tmp_path / "recorded")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ images/02-boundary:rate }}", "0.975"),
        ("{{images/02-boundary:rate|.1%}}", "97.5%"),
        ("{{ images/02-boundary:rate | .2f }}", "0.97"),
        ("{{ images/02-boundary:rate.n }}", "200"),
        ("{{ images/02-boundary:rate.ci|.0% }}", "94% to 99%"),
        ("{{ recorded/long:score|.3f }}", "1.000"),
        ("{{ recorded/long:score }} {{ recorded/long:label }}", "1 horse"),
        ("{{ recorded/long:whole }}", "yes"),
        (r"$\mathbf{{x}}$ and {{ name }} and {{a:b}}", r"$\mathbf{{x}}$ and {{ name }} and {{a:b}}"),
    ],
)
def test_a_reference_becomes_its_value(metrics: Metrics, text: str, expected: str) -> None:
    assert substitute(text, metrics, "page.md") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ images/02-boundary:ratio }}", "unknown metric of images/02-boundary 'ratio' .did you mean 'rate'"),
        ("{{ images/09-none:rate }}", "unknown notebook in the book 'images/09-none'"),
        ("{{ recorded/none:score }}", "no recorded metrics"),
        ("{{ recorded/long:score.ci }}", "without an interval"),
        ("{{ recorded/long:score.n }}", "without n"),
        ("{{ recorded/long:label|.1% }}", "format"),
        ("{{ images/02-boundary:a:b }}", "is no reference"),
    ],
)
def test_a_reference_to_nothing_names_the_page_and_stops(metrics: Metrics, text: str, message: str) -> None:
    with pytest.raises(ChimeraError, match=message) as caught:
        substitute(f"text {text}", metrics, "book/page.md")
    assert str(caught.value).startswith("book/page.md: ")


def test_values_are_said_as_people_write_them() -> None:
    assert [say(v) for v in (3, 3.0, 0.123456, True, "x", 1234567.0)] == ["3", "3", "0.1235", "yes", "x", "1.235e+06"]
    said = [say(v, "sci").replace("\N{MULTIPLICATION SIGN}", "x") for v in (7.15e-7, 2, -3.04e12)]
    assert said == ["7.2 x 10⁻⁷", "2.0 x 10⁰", "-3.0 x 10¹²"]


def test_a_measurement_knows_where_it_was_made(metrics: Metrics) -> None:
    of_run = metrics.get("images/02-boundary:rate")
    assert (of_run.date, of_run.machine, of_run.command) == ("2026-11-21", "a laptop", "chimera run images/02-boundary")
    of_command = metrics.get("recorded/long:score")
    assert of_command.command == "chimera long"
    assert of_command.machine == recorded.machine()
