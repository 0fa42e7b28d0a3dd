"""Defences against disagreement, each run on two libraries and attacked by somebody who knows it.

``defence`` says what a defended system is; one file a kind of defence; ``trial`` attacks and measures them,
``report`` makes the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.errors import UnknownName
from chimera_lib.images.defences.abstention import Abstention, AbstentionEdge, measured_noise
from chimera_lib.images.defences.arithmetic import FixedOrder, Float64, Float64Products
from chimera_lib.images.defences.defence import Answer, Defence, Defended, Verdict
from chimera_lib.images.defences.noise import FixedNoise, FreshNoise, FreshNoiseControl
from chimera_lib.images.defences.rounding import Rounding
from chimera_lib.images.defences.secret_key import SecretKey
from chimera_lib.images.defences.vote import Vote

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from chimera_lib.images.network import Network

__all__ = ["DEFENCES", "Answer", "Defence", "Defended", "Verdict", "build", "measured_noise"]

KINDS: tuple[type[Defence], ...] = (
    *(Defence, Rounding, Abstention, AbstentionEdge, Float64Products, Float64, FixedOrder, Vote),
    *(FixedNoise, FreshNoise, FreshNoiseControl, SecretKey),
)
DEFENCES = {kind.name: kind.title for kind in KINDS}


def build(name: str, pair: tuple[str, str], network: Network, measure_on: Callable[[], np.ndarray]) -> Defence:
    """The defence called ``name`` on two libraries.

    Args:
        name: one of DEFENCES.
        pair: the libraries; the vote takes three of its own a side, the fixed order none.
        network: what is defended.
        measure_on: gives images uint8 (N, H, W, 3) to measure the libraries' noise on, where a threshold needs it.

    Raises UnknownName.
    """
    if name not in DEFENCES:
        raise UnknownName("defence", name, DEFENCES)
    kind = next(each for each in KINDS if each.name == name)
    sides = ((pair[0],), (pair[1],))
    channels, height, width = network.input_shape
    if issubclass(kind, Abstention):
        return kind(sides, measured_noise(network, sides, measure_on()))
    if issubclass(kind, Float64Products):
        return kind(pair)
    if issubclass(kind, (FixedOrder, Vote)):
        return kind()
    if issubclass(kind, (FixedNoise, SecretKey)):
        return kind(sides, (height, width, channels))
    return kind(sides)
