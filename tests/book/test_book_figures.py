"""The table of figures: bars met and missed, what nobody measured, and files that are no list of bars."""

from pathlib import Path

import pytest

from chimera_lib import recorded
from chimera_lib.book import figures
from chimera_lib.book.quotes import Metrics
from chimera_lib.errors import ChimeraError

ROOT = Path(__file__).resolve().parents[2]


def bar(**changes: object) -> figures.Figure:
    fields: dict = {"id": "a", "part": "I", "text": "a rate", "bar": "≥ 90 %", "metric": "images/02-boundary:rate"}
    return figures.Figure(**(fields | {"command": "chimera run images/02-boundary"} | changes))


def row(page: str, text: str) -> list[str]:
    """The cells of the row that starts with a text, the command left out."""
    lines = page[page.index(f"* - {text}") + 2 :].splitlines()
    cells = [line.strip()[2:] for line in lines[1:] if line.startswith("  - ")]
    return cells[:4]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"at_least": 0.9}, "✓ met"),
        ({"at_least": 0.98}, "✗ not met"),
        ({"at_most": 0.98}, "✓ met"),
        ({"at_most": 0.9}, "✗ not met"),
        ({"at_least": 0.975, "at_most": 0.975}, "✓ met"),
        ({}, "measured"),
    ],
)
def test_a_bar_is_met_or_not(runs: dict[str, Path], tmp_path: Path, changes: dict, verdict: str) -> None:
    page = figures.page([bar(format=".1%", **changes)], Metrics(runs, tmp_path))
    assert row(page, "a rate") == ["≥ 90 %", "**97.5%** (n = 200, 94.0% to 99.0%)", verdict, "2026-11-21, A"]
    assert "`chimera run images/02-boundary`" in page
    assert "- **A**: a laptop" in page


def test_what_nobody_measured_is_said_to_be_so(tmp_path: Path) -> None:
    bars = [
        bar(metric="recorded/none:rate"),
        bar(id="b", text="later", metric="recorded/none:x", planned=True, command="x y"),
    ]
    page = figures.page(bars, Metrics({}, tmp_path))
    assert row(page, "a rate") == ["≥ 90 %", "not measured yet", "", ""]
    assert row(page, "later") == ["≥ 90 %", "not in the library yet", "", ""]
    assert "x y" not in page
    assert "Machines" not in page


def test_a_recording_says_its_own_command_once_for_rows_that_share_it(tmp_path: Path) -> None:
    recorded.write(tmp_path / "long.json", "chimera long --seed 3", {"a": 1, "b": 2})
    bars = [bar(metric="recorded/long:a"), bar(id="b", text="another", metric="recorded/long:b")]
    page = figures.page(bars, Metrics({}, tmp_path))
    assert page.count("`chimera long --seed 3`") == 1
    assert "chimera run" not in page


def test_a_recording_without_the_metric_is_an_error(tmp_path: Path) -> None:
    recorded.write(tmp_path / "long.json", "chimera long", {"a": 1})
    with pytest.raises(ChimeraError, match="unknown metric of recorded/long"):
        figures.page([bar(metric="recorded/long:b")], Metrics({}, tmp_path))


def test_a_text_cannot_meet_a_bar_in_numbers() -> None:
    with pytest.raises(ChimeraError, match="bar in numbers"):
        bar(at_least=1).met("horse")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("a: 1", "must be a list"),
        ("- {id: a}", "lacks part, text, bar, metric, command"),
        ("- {id: a, part: b, text: c, bar: d, metric: e, command: f, at_last: 1}", "unknown fields .'at_last'."),
        ("- &x {id: a, part: b, text: c, bar: d, metric: e, command: f}\n- *x", "there twice"),
    ],
)
def test_a_file_that_is_no_list_of_bars_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "figures.yml"
    path.write_text(text)
    with pytest.raises(ChimeraError, match=message):
        figures.load(path)


def test_the_books_own_bars_can_be_read_and_name_notebooks_of_the_book() -> None:
    from chimera_lib.book.stage import notebooks

    bars = figures.load(ROOT / "book" / "figures.yml")
    sources = {one.metric.partition(":")[0] for one in bars}
    assert {s for s in sources if not s.startswith("recorded/")} <= set(notebooks(ROOT))
    assert {"lattice-verified", "submission-pytorch", "three-way", "four-way", "cuda"} <= {one.id for one in bars}


def test_a_bar_that_yaml_reads_as_a_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.yml"
    path.write_text("- {id: a, part: I, text: t, bar: b, metric: a/b:c, command: d, at_most: 1e-07}")
    with pytest.raises(ChimeraError, match="at_most is '1e-07', expected a number"):
        figures.load(path)
