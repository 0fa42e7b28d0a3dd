"""The stepper in both its modes; in a browser it is turned by tests/book/test_browser.py."""

import base64
import io
import re

import ipywidgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from chimera_lib import widgets
from chimera_lib.errors import ChimeraError

mpl.use("Agg")

FRAMES = [np.full((4, 4, 3), shade, np.uint8) for shade in (0, 120, 250)]
LABELS = ["start", "half <way>", "boundary"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CHIMERA_RUN_DIR", "anywhere")
    return widgets.stepper(FRAMES, LABELS, "A walk to the boundary").data


def test_an_executed_run_carries_every_frame_and_asks_for_nothing(page: str) -> None:
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    shades = [Image.open(io.BytesIO(base64.b64decode(p))).getpixel((0, 0)) for p in pictures]
    assert shades == [(0, 0, 0), (120, 120, 120), (250, 250, 250)]
    assert 'max="2"' in page
    assert "2 / 3 · half &lt;way&gt;" in page
    assert "http" not in page
    assert page.count("display:none") == 2  # without scripts the first frame is still a picture


def test_an_executed_run_leaves_the_same_page_twice(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_RUN_DIR", "elsewhere")
    assert widgets.stepper(FRAMES, LABELS, "A walk to the boundary").data == page
    assert widgets.stepper(FRAMES, LABELS, "Another walk").data != page


def test_a_live_kernel_gets_a_slider_that_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHIMERA_RUN_DIR", raising=False)
    box = widgets.stepper(FRAMES, LABELS, "A walk")
    picture, slider, text, _ = box.children
    first = picture.value
    assert 'alt="1 / 3 · start"' in first
    slider.value = 1
    assert 'alt="2 / 3 · half &lt;way&gt;"' in picture.value
    slider.value = 2
    assert text.value == "3 / 3 · boundary"
    assert picture.value != first


def test_a_live_kernel_draws_anew_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHIMERA_RUN_DIR", raising=False)
    asked = []

    def draw(index: int) -> np.ndarray:
        asked.append(index)
        return FRAMES[0]

    box = widgets.stepper(FRAMES, LABELS, "A walk", live=draw)
    next(c for c in box.children if isinstance(c, ipywidgets.IntSlider)).value = 1
    assert asked == [1]


def test_figures_and_png_bytes_are_frames_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_RUN_DIR", "anywhere")
    figure, _ = plt.subplots()
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3)).save(buffer, "PNG")
    page = widgets.stepper([figure, buffer.getvalue()], ["a", "b"], "two kinds").data
    assert page.count("data:image/png") == 2
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [
        ([], [], "needs one label per frame"),
        (FRAMES, ["a"], "3 frames and 1 labels"),
        ([np.zeros((2, 2, 3))], ["a"], "float64"),
        (["x.png"], ["a"], "a frame is str"),
    ],
)
def test_what_makes_no_stepper_is_refused(frames: list, labels: list[str], message: str) -> None:
    with pytest.raises(ChimeraError, match=message):
        widgets.stepper(frames, labels, "caption")
