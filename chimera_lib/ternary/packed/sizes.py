"""What a packed network takes, layer by layer, and how far its layers' answers lie from the fake-quantised ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from chimera_lib.ternary.packed.layers import NothingToPack
from chimera_lib.ternary.packed.storage import PackedTernary
from chimera_lib.ternary.quantizers import statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

FP32 = 4  # bytes of a weight


@dataclass(frozen=True)
class Size:
    """One packed layer: its weights, the bytes they take with their scales, the share of zeros, and the entropy."""

    layer: str
    weights: int
    stored: int
    zero_ratio: float
    effective_bits: float

    @property
    def times_smaller(self) -> float:
        """Than the same weights in fp32."""
        return FP32 * self.weights / self.stored

    @property
    def bits(self) -> float:
        """Stored bits of a weight, scales included."""
        return 8 * self.stored / self.weights


def by_layer(model: nn.Module) -> list[Size]:
    """The size of every packed layer of a model, in its order. Raises NothingToPack where there is none."""
    found = []
    for name, layer in model.named_modules():
        if isinstance(layer, PackedTernary):
            counted = statistics.count(layer.codes())
            found.append(Size(name, counted.numel, layer.storage(), counted.zero_ratio, counted.effective_bits))
    if not found:
        raise NothingToPack(f"{type(model).__name__} has no packed layer: pack(model) makes them")
    return found


def times_smaller(sizes: Iterable[Size]) -> float:
    """Of all layers together: bytes in fp32 over bytes stored."""
    sizes = list(sizes)
    return FP32 * sum(size.weights for size in sizes) / sum(size.stored for size in sizes)


def state_bytes(model: nn.Module) -> int:
    """Bytes of everything in a model's state: weights, packed or not, scales, biases, batch norm's statistics."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


@torch.no_grad()
def differences(ternary: nn.Module, packed: nn.Module, x: Tensor) -> dict[str, float]:
    """How far each packed layer's answer lies from its ternary layer's, on that layer's own input in the network.

    Args:
        ternary: in eval mode; ``packed`` is `pack` of it.
        x: an input of the network.

    Returns:
        By layer: the largest difference of an output, relative to the largest output.
    """
    inputs: dict[str, Tensor] = {}
    pairs = {name: layer for name, layer in packed.named_modules() if isinstance(layer, PackedTernary)}

    def keep(name: str) -> Any:
        return lambda _layer, given: inputs.__setitem__(name, given[0])

    hooks = [ternary.get_submodule(name).register_forward_pre_hook(keep(name)) for name in pairs]
    try:
        ternary(x)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, layer in pairs.items():
        expected = ternary.get_submodule(name)(inputs[name])
        found[name] = float((layer(inputs[name]) - expected).abs().max() / expected.abs().max())
    return found
