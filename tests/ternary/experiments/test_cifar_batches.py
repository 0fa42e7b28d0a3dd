"""Batches are decided by seed and epoch alone, held-out images are not trained on, and nothing downloads unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from chimera_lib import assets
from chimera_lib.errors import AssetMissing, ChimeraError
from chimera_lib.ternary.experiments import cifar_batches

if TYPE_CHECKING:
    from pathlib import Path


def first(**options: object) -> tuple[torch.Tensor, torch.Tensor]:
    given = {"seed": 0, "epoch": 0, **options}
    return next(cifar_batches.training_batches(cifar_batches.synthetic(64, 8), 32, **given))  # type: ignore[arg-type]


def test_seed_and_epoch_decide_a_batch() -> None:
    x, labels = first()
    again, same = first()
    assert torch.equal(x, again) and torch.equal(labels, same)
    assert not torch.equal(x, first(epoch=1)[0])
    assert not torch.equal(x, first(seed=1)[0])
    assert x.shape == (32, 3, 32, 32) and x.dtype == torch.float32


def test_without_augmentation_each_image_comes_once_and_whole() -> None:
    splits = cifar_batches.synthetic(64, 8)
    given = list(cifar_batches.training_batches(splits, 16, seed=3, epoch=0, augment=False))
    seen = torch.cat([x for x, _ in given])
    wanted = cifar_batches.normalised(splits.train_images)
    assert torch.equal(seen.flatten(1).sum(1).sort().values, wanted.flatten(1).sum(1).sort().values)
    assert sorted(torch.cat([labels for _, labels in given]).tolist()) == sorted(splits.train_labels.tolist())


def test_normalised_has_the_published_moments() -> None:
    image = np.round(255 * np.array(cifar_batches.MEAN)).astype(np.uint8)
    zero = cifar_batches.normalised(np.tile(image, (2, 4, 4, 1)))
    assert zero.abs().max() < 0.01
    one = cifar_batches.normalised(np.full((1, 1, 1, 3), 255, np.uint8)).flatten()
    assert one.tolist() == pytest.approx([(1 - 0.4914) / 0.2470, (1 - 0.4822) / 0.2435, (1 - 0.4465) / 0.2616])


def test_held_out_images_are_the_last_and_no_longer_trained_on() -> None:
    splits = cifar_batches.synthetic(64, 8)
    held = splits.held_out(10)
    assert np.array_equal(held.test_images, splits.train_images[-10:]) and len(held.train_images) == 54
    assert held.name == "synthetic-validation"
    for count in (0, 64):
        with pytest.raises(ChimeraError, match="expected 1 to 63"):
            splits.held_out(count)


def test_batches_are_counted_and_limited() -> None:
    splits = cifar_batches.synthetic(64, 20)
    assert cifar_batches.number_of_batches(splits, 10) == 6
    assert cifar_batches.number_of_batches(splits, 10, 4) == 4
    with pytest.raises(ChimeraError, match="there are 64 training images"):
        cifar_batches.number_of_batches(splits, 65)
    sizes = [len(labels) for _, labels in cifar_batches.test_batches(splits, 8)]
    assert sizes == [8, 8, 4]
    assert len(list(cifar_batches.test_batches(splits, 8, 2))) == 2


def test_nothing_is_downloaded_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "empty"))
    asked: list[str] = []
    monkeypatch.setattr(assets, "fetch", lambda name, report: asked.append(name))
    with pytest.raises(AssetMissing, match="cifar10"):
        cifar_batches.load()
    assert asked == []
    with pytest.raises(AssetMissing):
        cifar_batches.load(download=True)
    assert asked == ["cifar10"]


def test_a_folder_without_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="no such folder"):
        cifar_batches.load(tmp_path / "none")
    with pytest.raises(ChimeraError, match="holds no CIFAR-10"):
        cifar_batches.load(tmp_path)


def test_a_folder_with_a_published_copy_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (10_000, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(tmp_path / f"{name}.bin")
    splits = cifar_batches.load(tmp_path)
    assert splits.train_images.shape == (50_000, 32, 32, 3) and splits.test_labels.shape == (10_000,)
    assert splits.test_labels[0] == records[0, 0] and splits.test_images[0, 0, 1, 0] == records[0, 2]
