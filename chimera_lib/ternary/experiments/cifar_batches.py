"""CIFAR-10 in batches: where it comes from, what is held out, and an order that a seed and an epoch decide."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib import assets, cifar10
from chimera_lib.augmentation import as_batch, crops
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images' channels
PAD = 4  # pixels by which a crop may be shifted either way
CLASSES = 10


@dataclass(frozen=True)
class Splits:
    """Images uint8 (N, 32, 32, 3) and labels int64 (N,) to train on and to be tested on; ``name`` says of what."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    name: str = "cifar10"

    def digest(self) -> str:
        """Twelve hex digits that name these images and labels: other data, other digits."""
        summed = hashlib.sha256(self.name.encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            summed.update(f"{array.dtype} {array.shape}".encode())
            summed.update(np.ascontiguousarray(array).data)
        return summed.hexdigest()[:12]

    def held_out(self, count: int) -> Splits:
        """Splits whose test images are the last ``count`` training images, which are no longer trained on.

        What is chosen by looking at these never saw the test images. Raises ChimeraError for a count that leaves none.
        """
        if not 0 < count < len(self.train_images):
            raise ChimeraError(f"validation={count}: expected 1 to {len(self.train_images) - 1} training images")
        images, labels = self.train_images, self.train_labels
        return Splits(images[:-count], labels[:-count], images[-count:], labels[-count:], f"{self.name}-validation")


def load(root: Path | None = None, *, download: bool = False, report: Callable[[str], object] = print) -> Splits:
    """CIFAR-10 from a folder with any published copy of it, or from the cache.

    Args:
        root: the folder; None reads the cache (``chimera data fetch cifar10``).
        download: fetch into the cache what is not there; nothing is downloaded without it.
        report: is told what is fetched.

    Raises:
        AssetMissing: there is no copy in the cache, and ``download`` is False.
        ChimeraError: ``root`` holds no complete copy.
    """
    if root is not None and not (download and not root.exists()):
        if not root.is_dir():
            raise ChimeraError(f"--dataset-root {root}: no such folder; name one with CIFAR-10, or give --download")
        with tempfile.TemporaryDirectory() as work:
            cifar10.convert(root, Path(work))
            return _splits({name: np.load(Path(work) / f"{name}.npy", allow_pickle=False) for name in cifar10.ARRAYS})
    if download and not assets.present("cifar10"):
        assets.fetch("cifar10", report=report)
    return _splits(cifar10.load())


def _splits(arrays: dict[str, np.ndarray]) -> Splits:
    return Splits(arrays["train_images"], arrays["train_labels"], arrays["test_images"], arrays["test_labels"])


def synthetic(train: int = 512, test: int = 256, *, seed: int = 0) -> Splits:
    """Ten blurred patterns in heavy noise, for trying a command out without any data: nothing to conclude from."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 196, (CLASSES, 8, 8, 3))
    patterns = coarse.repeat(4, axis=1).repeat(4, axis=2)  # (10, 32, 32, 3)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, CLASSES, count)
        noisy = patterns[labels] + rng.normal(0, 48, (count, 32, 32, 3))
        return noisy.clip(0, 255).astype(np.uint8), labels.astype(np.int64)

    return Splits(*draw(train), *draw(test), name="synthetic")


def normalised(images: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """uint8 (N, 32, 32, 3) to float32 (N, 3, 32, 32), each channel of mean 0 and variance 1 over CIFAR-10."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return as_batch(images).to(device).sub_(mean).div_(std)


def training_batches(
    splits: Splits, batch_size: int, *, seed: int, epoch: int, limit: int | None = None, augment: bool = True
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of one epoch: x float32 (B, 3, 32, 32), labels (B,). What does not fill a batch is left out.

    ``seed`` and ``epoch`` alone decide order, flips and crops, so that an epoch can be repeated after a restart and
    every network of a comparison sees the same images.
    """
    rng = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(len(splits.train_images), generator=rng).numpy()
    for batch in range(number_of_batches(splits, batch_size, limit)):
        picked = order[batch * batch_size : (batch + 1) * batch_size]
        x = normalised(splits.train_images[picked])
        if augment:
            x = crops(x, x.shape[-1], PAD, rng)
        yield x, torch.from_numpy(splits.train_labels[picked])


def number_of_batches(splits: Splits, batch_size: int, limit: int | None = None) -> int:
    """Full batches in an epoch, at most ``limit``. Raises ChimeraError where there is not one."""
    full = len(splits.train_images) // batch_size
    if full == 0:
        raise ChimeraError(f"--batch-size {batch_size}: there are {len(splits.train_images)} training images")
    return full if limit is None else min(full, limit)


def test_batches(
    splits: Splits, batch_size: int, limit: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The test images in order: x float32 (B, 3, 32, 32), labels (B,); at most ``limit`` batches."""
    starts = range(0, len(splits.test_images), batch_size)
    for start in list(starts)[:limit]:
        part = slice(start, start + batch_size)
        yield normalised(splits.test_images[part]), torch.from_numpy(splits.test_labels[part])
