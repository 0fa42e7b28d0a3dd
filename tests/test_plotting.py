"""What `show` and `table` leave in a run's folder and on the page."""

import csv
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from chimera_lib import plotting
from chimera_lib.errors import ChimeraError

mpl.use("Agg")


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHIMERA_RUN_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what a notebook would have displayed."""
    objects: list[Any] = []
    monkeypatch.setattr("IPython.display.display", objects.append)
    return objects


def _line() -> "plt.Figure":
    figure, axis = plt.subplots()
    axis.plot([0, 1], [0, 1])
    return figure


def test_show_saves_displays_and_closes(run_folder: Path, shown: list[Any]) -> None:
    figure = _line()
    plotting.show(figure, "line")
    with Image.open(run_folder / "line.png") as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert [one.data for one in shown] == [(run_folder / "line.png").read_bytes()]
    assert not plt.fignum_exists(figure.number)


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert plotting.png(_line()) == plotting.png(_line())
    plt.close("all")


def test_outside_of_a_run_nothing_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[Any]) -> None:
    monkeypatch.delenv("CHIMERA_RUN_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    plotting.show(_line(), "line")
    plotting.table([{"a": 1}], "numbers")
    assert len(shown) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a.png"])
def test_a_name_that_is_no_plain_file_name_is_refused(run_folder: Path, name: str) -> None:
    with pytest.raises(ChimeraError, match="plain file name"):
        plotting.show(_line(), name)
    assert list(run_folder.iterdir()) == []
    plt.close("all")


def test_table_rounds_on_the_page_and_not_in_the_file(run_folder: Path, shown: list[Any]) -> None:
    rows = [{"name": "<b>", "rate": 0.123456789, "n": 3, "ok": True}, {"name": "b", "rate": None, "n": 4, "ok": False}]
    plotting.table(rows, "rates", caption="Rates", formats={"rate": ".1%"})
    page = shown[0].data
    assert "12.3%" in page
    assert "&lt;b&gt;" in page
    assert "<caption>Rates</caption>" in page
    assert 'tabindex="0" role="region" aria-label="Rates"' in page
    assert ">yes<" in page
    with (run_folder / "rates.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file)))["rate"] == "0.123456789"


def test_a_table_without_a_caption_is_called_by_its_name(run_folder: Path, shown: list[Any]) -> None:
    plotting.table([{"a": 1}], "bit-classes")
    assert 'role="region" aria-label="bit classes"' in shown[0].data
    assert (run_folder / "bit-classes.csv").is_file()


@pytest.mark.parametrize(
    ("rows", "formats", "message"),
    [([], {}, "no rows"), ([{"a": 1}, {"b": 2}], {}, "columns"), ([{"a": 1}], {"b": ".1f"}, "no column")],
)
def test_table_refuses_rows_that_do_not_fit(rows: list, formats: dict, message: str) -> None:
    with pytest.raises(ChimeraError, match=message):
        plotting.table(rows, "numbers", formats=formats)


def test_pictures_are_tiled_with_their_titles() -> None:
    figure = plotting.pictures(np.zeros((3, 8, 8, 3), np.uint8), ["a", "b", "c"], columns=2)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    plt.close(figure)
    with pytest.raises(ChimeraError, match="one title"):
        plotting.pictures(np.zeros((2, 8, 8, 3), np.uint8), ["a"])


@pytest.mark.parametrize("lines", [1, 3])
def test_no_title_of_a_picture_is_cut_off(lines: int, tmp_path: Path) -> None:
    plotting.style()
    titles = ["\n".join(["OpenBLAS: automobile"] * lines)] * 3
    figure = plotting.pictures(np.zeros((3, 32, 32, 3), np.uint8), titles)
    (tmp_path / "tiles.png").write_bytes(plotting.png(figure))
    plt.close(figure)
    drawn = np.asarray(Image.open(tmp_path / "tiles.png").convert("L")) < 250
    edges = (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1])
    assert not any(edge.any() for edge in edges), "something is drawn right up to the edge"


def test_style_sets_colours_that_can_be_told_apart() -> None:
    with mpl.rc_context():
        plotting.style()
        assert mpl.rcParams["axes.prop_cycle"].by_key()["color"] == list(plotting.COLOURS)
