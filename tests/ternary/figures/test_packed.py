"""The figures of packed weights say what the codecs do, and can be drawn of what the notebook draws."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from chimera_lib.ternary.figures import packed as figures
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.sizes import Size

CODES = np.array([1, 0, -1, 1, 1, 0, 0, -1, -1, 1, 0, 1, -1, 0, 1, 1, 0, 0, -1, -1, 1], dtype=np.int8)


@pytest.fixture(autouse=True)
def closed() -> object:
    yield
    plt.close("all")


def texts(axis: plt.Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("length", [1, 4, 20, 21])
def test_a_byte_holds_the_weights_that_the_figure_says(name: str, length: int) -> None:
    codec, codes = CODECS[name], torch.from_numpy(CODES[:length])
    held = figures.pieces(CODES[:length], codec)
    assert sorted(held[held >= 0].tolist()) == list(range(length))
    for number in range(length):  # a change of one weight changes the byte that is said to hold it, and no other
        other = codes.clone()
        other[number] = 1 - other[number].abs()
        changed = (codec.encode(codes) != codec.encode(other)).nonzero().flatten().tolist()
        assert changed == [int(np.argwhere((held == number).any(axis=1))[0, 0])]


def test_the_bytes_of_a_row_are_drawn_with_their_values() -> None:
    figure = figures.bytes_of_a_row(CODES[:20])
    for axis, codec in zip(figure.axes[1:], CODECS.values(), strict=True):
        packed = codec.encode(torch.from_numpy(CODES[:20])).tolist()
        assert [t for t in texts(axis) if t.startswith("byte")] == [f"byte {i}: {v}" for i, v in enumerate(packed)]


@pytest.mark.parametrize("name", CODECS)
def test_a_frame_reckons_its_byte_right(name: str) -> None:
    codec, weights = CODECS[name], CODES[:20] * 0.3
    for byte, value in enumerate(codec.encode(torch.from_numpy(CODES[:20])).tolist()):
        title = figures.byte_frame(weights, CODES[:20], 0.1, codec, byte).axes[1].get_title()
        sum_said, said = title.split(": ")[1].rsplit(" = ", 1)
        if name == "2bit":
            reckoned = int(sum_said.removeprefix("bits ").replace(" ", ""), 2)
        else:
            reckoned = sum(int(a) * int(b) for a, b in (term.split("·") for term in sum_said.split(" + ")))
        assert reckoned == int(said) == value
        plt.close("all")


def test_sizes_entropy_and_speeds_are_drawn_where_they_are() -> None:
    layers = {
        "2bit": [Size("a", 100, 29, 0.4, 1.5), Size("b", 1000, 254, 0.6, 1.3)],
        "base3": [Size("a", 100, 24, 0.4, 1.5), Size("b", 1000, 204, 0.6, 1.3)],
    }
    axis = figures.sizes(layers, {"2bit": 15.0, "base3": 18.0}).axes[0]
    drawn = [point[0] for dots in axis.collections for point in dots.get_offsets()]
    assert drawn == pytest.approx([400 / 29, 4000 / 254, 400 / 24, 4000 / 204])
    assert axis.get_xlim()[0] < 400 / 29

    axis = figures.storage_and_entropy(layers).axes[0]
    curve = axis.lines[0].get_xydata()
    assert curve[:, 1].max() == pytest.approx(np.log2(3), abs=1e-3)
    stored, *_, entropies = (dots.get_offsets().tolist() for dots in axis.collections)
    assert stored[1] == pytest.approx([0.6, 8 * 254 / 1000]) and entropies == [[0.4, 1.5], [0.6, 1.3]]

    metric = {"value": 2.0, "ci": (1.5, 2.5)}
    settings = {
        "one": {"fp32": {"value": 1.0, "ci": (1.0, 1.0)}, "2bit": metric},
        "many": {"fp32": metric, "2bit": {"value": 0.01, "ci": (0.005, 0.02)}},
    }
    figure = figures.speeds(settings, {"one": 1.5, "many": 3.0})
    figure.canvas.draw()
    assert [axis.get_title() for axis in figure.axes] == ["one", "many"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["fp32", "2bit"]
