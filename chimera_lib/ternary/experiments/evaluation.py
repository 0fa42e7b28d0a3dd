"""Loss and accuracy of a network on images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from chimera_lib import stats
from chimera_lib.ternary.experiments import cifar_batches

if TYPE_CHECKING:
    from torch import nn

    from chimera_lib.ternary.experiments.cifar_batches import Splits

__all__ = ["Score", "evaluate"]


@dataclass(frozen=True)
class Score:
    """What a pass over labelled images gave."""

    loss: float
    correct: int
    n: int

    @property
    def accuracy(self) -> float:
        """Share of the images that got their label, in [0, 1]."""
        return self.correct / self.n

    @property
    def ci(self) -> stats.Interval:
        """Wilson 95 % interval of ``accuracy``, over images."""
        return stats.wilson(self.correct, self.n)


@torch.no_grad()
def evaluate(model: nn.Module, splits: Splits, batch_size: int, limit: int | None = None, device: str = "cpu") -> Score:
    """Loss and accuracy on the test images, in eval mode; quantizers' counters and averages stay as they are."""
    was_training = model.training
    model.eval()
    loss, correct, n = 0.0, 0, 0
    for x, labels in cifar_batches.test_batches(splits, batch_size, limit):
        logits = model(x.to(device, memory_format=torch.channels_last)).float().cpu()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += int((logits.argmax(1) == labels).sum())
        n += len(labels)
    model.train(was_training)
    return Score(loss / n, correct, n)
