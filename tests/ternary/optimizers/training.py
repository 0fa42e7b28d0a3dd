"""A small network, its training, and the names of the optimizers that the contract's tests are about."""

from __future__ import annotations

import torch

from chimera_lib.ternary.optimizers import OPTIMIZERS

NAMES = list(OPTIMIZERS)
OURS = [name for name in NAMES if name not in {"adamw", "sgd_momentum"}]
GATED = [name for name in NAMES if name.startswith("chimera")]


def model(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = 6) -> list[float]:
    losses = []
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        loss = (net(torch.randn(16, 4, generator=generator)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])
