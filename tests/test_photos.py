"""Photographs: one order for all, none twice, cut and resized as the docstring says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from chimera_lib import assets, photos
from chimera_lib.errors import AssetMissing, ChimeraError

PRESENT = pytest.mark.skipif(not assets.present("groceries"), reason="groceries is not in the cache")


@PRESENT
def test_any_stretch_is_the_same_photographs() -> None:
    several = photos.load(6, first=500)
    assert several.shape == (6, 224, 224, 3) and several.dtype == np.uint8
    np.testing.assert_array_equal(photos.load(2, first=503), several[3:5])
    assert len(photos.kinds(6, first=500)) == 6
    assert photos.load(1, size=32, first=500).shape == (1, 32, 32, 3)


@PRESENT
def test_no_photograph_comes_twice() -> None:
    jpegs = [jpeg for jpeg, _ in photos._all()]
    assert len(set(jpegs)) == len(jpegs) == photos.total() == 1393


@PRESENT
def test_the_first_twenty_show_many_kinds() -> None:
    assert len(set(photos.kinds(20))) >= 10


@PRESENT
@pytest.mark.parametrize(("count", "first"), [(0, 0), (1, -1), (1, 1393), (1394, 0)])
def test_others_are_refused(count: int, first: int) -> None:
    with pytest.raises(ChimeraError, match="expected some of 0 to 1392"):
        photos.load(count, first=first)


def test_the_central_square_is_taken() -> None:
    """A photograph of 400 x 200: black but for a white square of 0.875 of its height in the middle."""
    import io

    picture = np.zeros((200, 400, 3), np.uint8)
    side = 175
    picture[13 : 13 + side - 1, 113 : 113 + side - 1] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    square = photos._square(buffer.getvalue(), 64)
    assert square.shape == (64, 64, 3)
    assert square[2:-2, 2:-2].min() > 240


def test_missing_asset_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path))
    with pytest.raises(AssetMissing, match="chimera data fetch groceries"):
        photos.load(1)
