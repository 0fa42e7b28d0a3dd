"""CIFAR's usual augmentation, flips and shifted crops, on batches of images; the same generator, the same batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy as np


def as_batch(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)


def crops(x: torch.Tensor, side: int, pad: int, rng: torch.Generator) -> torch.Tensor:
    """Random flips and random crops of ``side`` pixels from the reflect-padded batch x (B, 3, H, W).

    ``rng`` lives on the CPU wherever x does, so that a seed draws the same crops on every device.
    """
    n, _, height, _ = x.shape
    flip = (torch.rand(n, generator=rng) < 0.5).to(x.device)
    x = torch.where(flip.view(n, 1, 1, 1), x.flip(3), x)
    x = F.pad(x, (pad,) * 4, mode="reflect")
    slack = height + 2 * pad - side
    top, left = (torch.randint(slack + 1, (n, 1), generator=rng) for _ in range(2))
    rows = (top + torch.arange(side)).to(x.device)  # (B, side)
    columns = (left + torch.arange(side)).to(x.device)
    every = torch.arange(n, device=x.device).view(n, 1, 1)
    return x[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
