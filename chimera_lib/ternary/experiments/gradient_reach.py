"""How far the gradient reaches: which parameters learn, and whether a network can learn a few images by heart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from chimera_lib.ternary.resnet import ChimeraResNet20

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor, nn


def network(mode: str = "chimera", *, seed: int = 0, **options: Any) -> ChimeraResNet20:
    """Chimera's published network: every layer ternary, shortcuts with projections, 65 parameters in full precision.

    ``options`` are those of ChimeraResNet20. At one seed all modes start from the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChimeraResNet20(mode, **{"first_last_fp32": False, "shortcut": "projection", **options})


def parameters_with_gradient(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """Names of the parameters whose gradient of the cross-entropy is there and is not all zero."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return [name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())]


def overfit(model: nn.Module, x: Tensor, y: Tensor, *, steps: int = 25, learning_rate: float = 2e-3) -> list[float]:
    """Train on all of ``x`` at once by Adam; the loss before each step and, last, after the last: steps + 1 numbers.

    In training mode, so that a warm-up advances with each of them.
    """
    optimizer = torch.optim.Adam(model.train().parameters(), lr=learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(F.cross_entropy(model(x), y).item())
    return losses


@torch.no_grad()
def changed_by_eval(model: nn.Module, x: Tensor, forwards: int = 3) -> list[str]:
    """Names of the state's entries, of all buffers and parameters, in which a bit differs after eval forwards."""
    was_training = model.training
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    for _ in range(forwards):
        model(x)
    model.train(was_training)
    after = model.state_dict()
    return [name for name, value in before.items() if not torch.equal(value, after[name])]
