"""A packed layer and its peers on the same trits, timed in turns, for the benchmark and for notebook ``ternary/06``.

Every contender does its whole work in every call. They take turns in a random order, so that whatever else the machine
does slows all of them, and what one leaves in the caches is the same for all. A turn is the shortest of a few rounds,
since a call that the scheduler interrupts tells of the scheduler.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.layers import PackedBitLinear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Contenders = dict[str, Callable[[Tensor], Tensor]]

BASE = "fp32"
ROUNDS = 5  # calls of each contender in a turn


class NotHere(ChimeraError):  # noqa: N818
    """A peer that cannot be measured on this machine; the message says why."""


def transformers_layer(layer: BitLinear) -> nn.Module:
    """transformers' packed BitLinear with the trits and the scale of ours."""
    if not matvec.can_compile():
        raise NotHere("transformers' BitLinear unpacks by torch.compile, which does not work here")
    try:
        from transformers.integrations import bitnet
    except ImportError as error:
        raise NotHere(f"transformers' BitLinear: {error}") from error
    codes, scale, _ = layer.quantizer.trits(layer.weight)
    made = bitnet.BitLinear(layer.in_features, layer.out_features, bias=False, dtype=torch.float32)
    made.weight.copy_(bitnet.pack_weights(codes.clone()))
    made.weight_scale.fill_(1 / float(scale))
    return made


def torchao_layer(layer: BitLinear) -> nn.Module:
    """torchao's layer of int8 weights and int8 activations, from the values of ours."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as error:
        raise NotHere(f"torchao: {error}") from error
    made = nn.Sequential(plain(layer))
    quantize_(made, Int8DynamicActivationInt8WeightConfig())
    return made


def plain(layer: BitLinear) -> nn.Linear:
    """nn.Linear with the values of a ternary layer."""
    made = nn.Linear(layer.in_features, layer.out_features, bias=False)
    made.weight.copy_(layer.quantizer.trits(layer.weight).values())
    return made


PEERS: Mapping[str, Callable[[BitLinear], nn.Module]] = {
    "transformers BitLinear": transformers_layer,
    "torchao int8": torchao_layer,
}


@torch.no_grad()
def contenders(layer: BitLinear, compiled: bool) -> tuple[Contenders, dict[str, str]]:
    """What is timed, by name, and why a peer is left out.

    Args:
        layer: without bias, in eval mode, ``mode="strict_bitnet"`` (one scale), sides that are multiples of 4.
        compiled: whether kernels are compiled here; the packed layer without them is then timed too.
    """
    floats = BitLinear.from_linear(plain(layer), mode="strict_bitnet", activation=None).eval()
    half = plain(layer).bfloat16()
    made: Contenders = {BASE: plain(layer), "bf16": lambda x: half(x.bfloat16()), "fake-quantised": layer}
    for codec in CODECS:
        made[codec] = PackedBitLinear.from_layer(layer, codec=codec)
        made[f"{codec} kept unpacked"] = PackedBitLinear.from_layer(layer, codec=codec, keep_unpacked=True)
    made["2bit, float activations"] = PackedBitLinear.from_layer(floats)
    if compiled:
        made["2bit, eager"] = eagerly(PackedBitLinear.from_layer(layer))
    left_out = {}
    for name, build in PEERS.items():
        try:
            made[name] = build(layer)
        except NotHere as error:
            left_out[name] = str(error)
    return made, left_out


def eagerly(layer: PackedBitLinear) -> Callable[[Tensor], Tensor]:
    """The layer as it is where nothing can be compiled."""

    def call(x: Tensor) -> Tensor:
        matvec.use_eager("to be timed")
        try:
            return layer(x)
        finally:
            matvec.use_eager()

    return call


@torch.no_grad()
def timed(made: Contenders, x: Tensor, turns: int, seed: int, rounds: int = ROUNDS) -> dict[str, np.ndarray]:
    """Seconds of the shortest of ``rounds`` calls in each turn, (turns,), by contender; x is (rows, in_features)."""
    for call in made.values():
        for _ in range(3):  # compiles, unpacks what is kept, and fills caches
            call(x)
    order, draws = list(made), random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(turns * rounds):
        draws.shuffle(order)
        for name in order:
            start = time.perf_counter()
            made[name](x)
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values).reshape(turns, rounds).min(axis=1) for name, values in seconds.items()}
