"""scikit-learn's handwritten digits: 1,797 real pictures of 8 x 8 pixels that come with the package.

They are the test part of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998): small enough
for a comparison that runs in a minute, and real, so that a network can be right or wrong about them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

PIXELS, CLASSES = 64, 10
SIZES = {"train": 1000, "validation": 297, "test": 500}
BRIGHTEST = 16  # pixels are counts of 0 to 16


class Part(NamedTuple):
    """Pictures, float32 (N, 64) in [0, 1], and their digits, int64 (N,)."""

    x: Tensor
    y: Tensor


def load() -> dict[str, Part]:
    """Parts ``train``, ``validation`` and ``test`` of ``SIZES``, which have no picture in common; always the same."""
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = torch.from_numpy((pictures[order] / BRIGHTEST).astype(np.float32))
    y = torch.from_numpy(labels[order].astype(np.int64))
    sizes = list(SIZES.values())
    return {
        name: Part(*both) for name, both in zip(SIZES, zip(x.split(sizes), y.split(sizes), strict=True), strict=True)
    }
