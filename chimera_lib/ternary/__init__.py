"""Chimera 2.1: an agreement-gated optimizer and dynamic ternary quantization, each effect by itself.

Three things that are often measured as one: ``optimizers`` (how a weight moves), ``quantizers`` and ``layers`` (what a
layer multiplies by while it is trained), and ``packed`` (how a trained layer is stored and run). ``convert.convert``
makes the layers of any network ternary, ``resnet.ChimeraResNet20`` is the network of the experiments, ``controllers``
aim a network's share of zero weights. The names below are imported when they are first asked for.
"""

from __future__ import annotations

import importlib

LAZY = {
    "BangBang": "controllers",
    "BitConv2d": "layers",
    "BitLinear": "layers",
    "ChimeraResNet20": "resnet",
    "one_shot": "controllers",
    "zero_ratio_for": "controllers",
}


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *LAZY])
