"""Photographs of groceries in shops, as images of one size (asset ``groceries``)."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import assets, parquet
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

SIZE = 224
CROP = 0.875  # of the shorter side: what ImageNet classifiers are commonly evaluated on
ORDER = 0  # seed of the order; the file lists one kind after another


@functools.cache
def _read(file: Path) -> tuple[tuple[bytes, str], ...]:
    """Each different JPEG of the file with its kind, in the fixed order."""
    columns = parquet.read(file, ["image_data", "finegrained_cat"])
    kinds = [kind.decode() for kind in columns["finegrained_cat"]]
    different = list(dict(zip(columns["image_data"], kinds, strict=True)).items())
    return tuple(different[i] for i in np.random.default_rng(ORDER).permutation(len(different)))


def _all() -> tuple[tuple[bytes, str], ...]:
    return _read(assets.path("groceries") / "images2.parquet")


def total() -> int:
    """How many different photographs there are (the file's 2,054 rows hold some twice). Raises AssetMissing."""
    return len(_all())


def load(count: int, size: int = SIZE, first: int = 0) -> np.ndarray:
    """Photographs ``first`` .. ``first + count - 1``, uint8 (count, size, size, 3).

    The order is shuffled once and for all and holds no photograph twice. Of each, the central square of 0.875 of the
    shorter side, resized with Pillow's bicubic filter. The first 20 are those of recorded runs; what is being
    developed looks at those from 500 on. Raises ChimeraError where there are not as many, AssetMissing.
    """
    chosen = _chosen(count, first)
    return np.stack([_square(jpeg, size) for jpeg, _ in chosen])


def kinds(count: int, first: int = 0) -> list[str]:
    """What each of those photographs shows, as its authors call it, such as ``Golden-Delicious``."""
    return [kind for _, kind in _chosen(count, first)]


def _chosen(count: int, first: int) -> tuple[tuple[bytes, str], ...]:
    if count < 1 or first < 0 or first + count > total():
        raise ChimeraError(f"photographs {first} to {first + count - 1}: expected some of 0 to {total() - 1}")
    return _all()[first : first + count]


def _square(jpeg: bytes, size: int) -> np.ndarray:
    """The central square of a JPEG, uint8 (size, size, 3)."""
    from PIL import Image as Images

    with Images.open(io.BytesIO(jpeg)) as file:
        image: Image = file.convert("RGB")
    side = round(min(image.size) * CROP)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Images.Resampling.BICUBIC, box=box))
