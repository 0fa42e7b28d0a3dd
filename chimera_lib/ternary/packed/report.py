"""The rows of notebook ``ternary/06``'s tables: what was packed, how exactly, how small, how fast."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from chimera_lib import stats
from chimera_lib.ternary.packed import contenders, example, sizes
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.export import export, load
from chimera_lib.ternary.packed.layers import PackedBitLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from chimera_lib.ternary.layers import BitLinear

LONGEST_ROW = 40  # trits of a row that is packed and unpacked


def accuracy(models: Mapping[str, nn.Module], images: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Right answers of each model to images uint8 (N, 32, 32, 3) of classes (N,), with the 95 % Wilson interval."""
    rows = []
    for name, model in models.items():
        right = int((example.logits(model, images).argmax(1).numpy() == labels).sum())
        low, high = stats.wilson(right, len(labels))
        rows.append({"network": name, "accuracy": right / len(labels), "from": low, "to": high})
    return rows


def codecs(generator: torch.Generator) -> list[dict[str, Any]]:
    """Of each codec: whether rows of every length come back bit for bit, and how many bytes mean something."""
    rows = []
    for name, codec in CODECS.items():
        exact, meant = True, 0
        for length in range(1, LONGEST_ROW + 1):
            drawn = torch.randint(-1, 2, (7, length), generator=generator).to(torch.int8)
            exact = exact and torch.equal(codec.decode(codec.encode(drawn), length), drawn)
        for byte in torch.arange(256, dtype=torch.uint8)[:, None]:
            try:
                codec.check(byte, codec.per_byte)
            except ValueError:
                continue
            meant += 1
        said = {"bytes with a meaning": meant, "bytes refused": 256 - meant}
        rows.append({"codec": name, "bits a weight": codec.bits, "exact": exact, **said})
    return rows


def storage(full: nn.Module, packed: Mapping[str, nn.Module]) -> list[dict[str, Any]]:
    """Bytes of the packed layers and of the whole network by codec, and how many times smaller than ``full``'s."""
    rows = []
    for name, model in packed.items():
        layers = sizes.by_layer(model)
        whole = sizes.state_bytes(model)
        rows.append(
            {
                "codec": name,
                "packed layers, bytes": sum(size.stored for size in layers),
                "times smaller": sizes.times_smaller(layers),
                "whole network, bytes": whole,
                "whole, times smaller": sizes.state_bytes(full) / whole,
            }
        )
    return rows


@torch.no_grad()
def answers(layer: BitLinear, x: Tensor) -> list[dict[str, Any]]:
    """How far the packed layer's answers to x (R, K) lie from the fake-quantised layer's, and both from float64's.

    ``layer`` is in eval mode, without bias, of one scale, with int8 activations. All are the largest difference of an
    output, relative to the largest output.
    """
    assert layer.activation is not None
    codes, scale, _ = layer.quantizer.trits(layer.weight)
    levels, step = layer.activation.codes(x)
    truth = (levels.double() @ codes.double().t()) * (scale * step).double()
    fake = layer(x).double()

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().max() / other.abs().max())

    rows = []
    for name in CODECS:
        found = PackedBitLinear.from_layer(layer, codec=name)(x).double()
        row = {"codec": name, "packed to fake-quantised": apart(found, fake)}
        rows.append(row | {"packed to float64": apart(found, truth), "fake-quantised to float64": apart(fake, truth)})
    return rows


def through_a_file(
    packed: Mapping[str, nn.Module], skeleton: Callable[[], nn.Module], images: np.ndarray, expected: Tensor
) -> list[dict[str, Any]]:
    """Write each packed model, read it into a new skeleton, and count the images that it gives the ``expected`` class.

    Args:
        packed: by codec.
        skeleton: builds a network of the same architecture.
        images: uint8 (N, 32, 32, 3).
        expected: classes (N,).
    """
    rows = []
    for name, model in packed.items():
        with tempfile.TemporaryDirectory() as folder:
            size = export(model, Path(folder) / "network.safetensors")
            read = load(Path(folder) / "network.safetensors", skeleton)
        same = int((example.logits(read, images).argmax(1) == expected).sum())
        rows.append({"codec": name, "file, bytes": size, "same predictions": same, "of": len(images)})
    return rows


def speed(made: contenders.Contenders, x: Tensor, turns: int, seed: int, rounds: int) -> dict[str, dict[str, Any]]:
    """By contender: the median of fp32's time over its own in the same turn, as ``value``, and ``ci``, 95 %."""
    seconds = contenders.timed(made, x, turns, seed, rounds)
    ratios = {name: seconds[contenders.BASE] / taken for name, taken in seconds.items()}
    return {name: {"value": float(np.median(each)), "ci": stats.bootstrap(each)} for name, each in ratios.items()}
