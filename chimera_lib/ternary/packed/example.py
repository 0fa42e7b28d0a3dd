"""A network to pack: the project's trained ResNet-20, made ternary and trained on for a little while.

Weights that are cut to three values without any training are no classifier any more; some tens of steps bring back
most of one. This is an example, not a result: the trained ablation is notebook ``ternary/05``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.resnet import BASELINE, ChimeraResNet20

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "resnet20.safetensors"
TRAINED_ON = 49_000  # the first of CIFAR-10's training images; the others watched that training
NAMES = {"stem.0.": "conv.", "stem.1.": "bn.", "classifier.": "fc.", ".shortcut.": ".projection."}  # there, and here


def trained() -> ChimeraResNet20:
    """The full-precision ResNet-20 with the weights that the project ships, in eval mode; input `as_input`."""
    from safetensors.torch import load_file

    state = {}
    for name, tensor in load_file(WEIGHTS).items():
        for there, here in NAMES.items():
            name = name.replace(there, here)
        state[name] = tensor
    model = ChimeraResNet20(BASELINE, shortcut="projection")
    model.load_state_dict(state)
    return model.eval()


def as_input(images: np.ndarray) -> Tensor:
    """Images uint8 (N, 32, 32, 3) as the shipped weights expect them: float32 (N, 3, 32, 32), values of [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def ternary(model: ChimeraResNet20, **options: Any) -> ChimeraResNet20:
    """A copy with ternary layers, all but the first and the last; ``options`` as of `convert`."""
    return convert(model, skip=lambda name, _: name in ("conv", "fc"), **options)


def train_on(
    model: ChimeraResNet20,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Train in place by AdamW, the learning rate falling to zero along a half cosine; returns the loss of each step.

    Args:
        images, labels: uint8 (N, 32, 32, 3) and int64 (N,).
        steps, batch: how many steps of how many images, drawn without replacement within a step.
        lr: the first step's. The default is the best of a grid of half decades after 40 steps, on the training images
            behind ``TRAINED_ON``.
        seed: of the draws.
        progress: is told each step's number.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    losses = []
    model.train()
    for step in range(steps):
        chosen = np.sort(rng.choice(len(images), batch, replace=False))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(as_input(images[chosen])), torch.from_numpy(labels[chosen]))
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress(step)
    model.eval()
    return losses


@torch.no_grad()
def logits(model: torch.nn.Module, images: np.ndarray, *, batch: int = 250) -> Tensor:
    """Logits (N, classes) of images uint8 (N, 32, 32, 3), ``batch`` at a time."""
    return torch.cat([model(as_input(images[i : i + batch])) for i in range(0, len(images), batch)])
