"""The trainer, on the real CIFAR-10, reduced to what two minutes allow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from chimera_lib import assets, cifar10
from chimera_lib.errors import AssetMissing, ChimeraError, UnknownName
from chimera_lib.images import models, train

if TYPE_CHECKING:
    import numpy as np

SHORT = replace(train.RECIPES["resnet20"], epochs=3, limit=4000, precision="float32", pad=2)


@pytest.fixture(scope="module")
def split() -> dict[str, np.ndarray]:
    if not assets.present("cifar10"):
        pytest.skip("cifar10 is not in the cache")
    data = dict(cifar10.load())
    data["test_images"], data["test_labels"] = data["test_images"][:2000], data["test_labels"][:2000]
    return data


@pytest.mark.slow
def test_short_training_learns_and_resumes_to_the_bit(split, tmp_path):
    torch.set_num_threads(1)
    card = train.train(SHORT, split, tmp_path / "straight", report=lambda _: None)
    assert card["test_accuracy"] > 0.3  # chance is 0.1

    class KilledError(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KilledError

    with pytest.raises(KilledError):
        train.train(SHORT, split, tmp_path / "killed", report=kill)
    assert not (tmp_path / "killed" / "resnet20.safetensors").exists()
    lines: list[str] = []
    train.train(SHORT, split, tmp_path / "killed", report=lines.append)
    assert [line.split(":")[0] for line in lines] == ["epoch 3/3"]
    one, two = (load_file(tmp_path / name / "resnet20.safetensors") for name in ("straight", "killed"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_checkpoint_of_another_recipe_is_refused(split, tmp_path):
    tiny = replace(SHORT, epochs=1, limit=128)
    train.train(tiny, split, tmp_path, report=lambda _: None)
    with pytest.raises(ChimeraError, match="another recipe"):
        train.train(replace(tiny, seed=1), split, tmp_path, report=lambda _: None)


def test_crops_keep_pixels_together():
    x = torch.arange(2 * 3 * 32 * 32, dtype=torch.float32).reshape(2, 3, 32, 32)
    cut = train.crops(x, 27, 0, torch.Generator().manual_seed(0))
    assert cut.shape == (2, 3, 27, 27)
    step = (cut[:, :, :, 1:] - cut[:, :, :, :-1]).abs()
    assert (step == 1).all()  # neighbours in a row stay neighbours, flipped or not
    assert torch.equal(cut[0, 1] - cut[0, 0], torch.full((27, 27), 1024.0))


def test_rate_rises_then_falls_to_zero():
    recipe = train.Recipe(warmup=0.25, learning_rate=0.4)
    rates = [train.rate(step, 100, recipe) for step in range(101)]
    assert max(rates) == pytest.approx(0.4)
    assert rates.index(max(rates)) == 24
    assert rates[-1] == 0


@pytest.mark.parametrize(("name", "bar"), [("cifarvgg", 0.88), ("resnet20", 0.88)])
def test_shipped_weights_reach_the_accuracy_of_their_card(name, bar, split):
    import json

    card = json.loads((models.WEIGHTS / f"{name}.json").read_text())
    model = models.load(name)
    measured = train.accuracy(model, split["test_images"], split["test_labels"])
    assert card["test_accuracy"] >= bar
    assert measured == pytest.approx(card["test_accuracy"], abs=0.025)  # 2,000 of the 10,000 images


def test_unknown_names(tmp_path):
    with pytest.raises(UnknownName, match="cifarvgg"):
        models.build("vgg")
    with pytest.raises(UnknownName, match="bfloat16"):
        train.resolve_precision("half", "cpu")
    with pytest.raises(AssetMissing, match="chimera images train"):
        models.load("cifarvgg", tmp_path / "none.safetensors")
