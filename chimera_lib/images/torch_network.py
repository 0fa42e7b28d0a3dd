"""A ``Network`` as a torch module: what gives gradients where only the network is known, as from an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from chimera_lib.images.backends.frameworks import torch_layers

if TYPE_CHECKING:
    from chimera_lib.images.network import Network


class TorchNetwork(nn.Module):
    """The operations of a network as calls of torch's functional forms, differentiable in the image.

    Its weights are buffers, which do not ask for gradients; it is in eval mode for good: a ``Network`` has no other.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.program = network.program
        self.places = {name: f"array_{i}" for i, name in enumerate(network.arrays)}  # a buffer's name has no dots
        for name, array in network.arrays.items():
            self.register_buffer(self.places[name], torch.from_numpy(array.copy()))
        # Channels-last convolutions run about a third faster on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        arrays = {name: getattr(self, place) for name, place in self.places.items()}
        return torch_layers(torch, self.program, arrays)(x).flatten(1)


def to_torch(network: Network) -> nn.Module:
    """The network as a torch module in eval mode: float32 images (B, C, H, W) to logits (B, classes).

    It computes what the backends compute, up to rounding, and can be differentiated by its input.
    """
    return TorchNetwork(network)
