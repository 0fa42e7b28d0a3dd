"""The network that the notebook packs: the shipped weights in a ternary ResNet-20, trained on for a few steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chimera_lib import cifar10
from chimera_lib.errors import AssetMissing
from chimera_lib.images import models
from chimera_lib.ternary.layers import BitConv2d
from chimera_lib.ternary.packed import example


def pictures(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 10
    return (rng.integers(0, 100, (count, 32, 32, 3)) + 15 * labels[:, None, None, None]).astype(np.uint8), labels


def test_the_weights_are_the_shipped_ones_and_answer_as_in_part_i() -> None:
    model = example.trained()
    shipped = load_file(example.WEIGHTS)
    assert sum(t.numel() for t in model.state_dict().values()) == sum(t.numel() for t in shipped.values())
    assert torch.equal(model.blocks[6].projection[0].weight, shipped["blocks.6.shortcut.0.weight"])
    x = example.as_input(pictures(4)[0])
    with torch.no_grad():
        torch.testing.assert_close(model(x), models.load("resnet20")(x), rtol=1e-4, atol=1e-4)


def test_an_input_is_a_picture_with_its_channels_first_in_units_of_one() -> None:
    images = pictures(2)[0]
    x = example.as_input(images)
    assert x.shape == (2, 3, 32, 32) and x.dtype == torch.float32
    assert float(x[1, 2, 5, 7]) == pytest.approx(images[1, 5, 7, 2] / 255)


def test_a_few_steps_lower_the_loss_and_leave_the_original_alone() -> None:
    images, labels = pictures(40)
    full = example.trained()
    before = full.blocks[0].conv1.weight.clone()
    model = example.ternary(full, mode="chimera", warmup=2)
    assert sum(isinstance(layer, BitConv2d) for layer in model.modules()) == 20
    assert type(model.conv) is torch.nn.Conv2d and type(model.fc) is torch.nn.Linear
    seen: list[int] = []
    losses = example.train_on(model, images, labels, steps=8, batch=20, lr=2e-3, progress=seen.append)
    assert seen == list(range(8)) and np.mean(losses[-2:]) < 0.8 * losses[0]
    assert not model.training and torch.equal(full.blocks[0].conv1.weight, before)
    again = example.train_on(
        example.ternary(full, mode="chimera", warmup=2), images, labels, steps=2, batch=20, lr=2e-3
    )
    assert again[0] == losses[0]  # the same draws


def test_the_shipped_weights_classify() -> None:
    try:
        data = cifar10.load()
    except AssetMissing:
        pytest.skip("cifar10 is not in the cache")
    right = example.logits(example.trained(), data["train_images"][49_000:49_200], batch=100).argmax(1)
    assert (right.numpy() == data["train_labels"][49_000:49_200]).mean() > 0.85
