"""The user's model, in whatever form it comes, as a ``Network``; and a normalisation put before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images import network as networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.images.network import Network

FORMS = "an ONNX file, FILE.py:CALLABLE or PACKAGE.MODULE:CALLABLE that gives a torch module, or a network's .npz"
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def load(spec: str, size: Callable[[], tuple[int, int]] = lambda: (32, 32)) -> Network:
    """The network that ``spec`` names: a shipped one, or what ``FORMS`` lists.

    A torch module does not say what size it takes: ``size`` is asked for (height, width) then. Naming a module runs
    its code. Raises ChimeraError for what is missing or cannot be read, naming the operation that is not supported.
    """
    from chimera_lib.images import models

    shipped = [*models.MODELS, models.PHOTOGRAPHS]
    if spec in shipped:
        return networks.from_torch(models.load(spec), models.input_shape(spec))
    path = Path(spec)
    if ":" in spec and not path.exists():
        from chimera_lib.images.modules import module_from

        return networks.from_torch(module_from(spec), (3, *size()))
    if path.suffix.lower() in (".onnx", ".npz"):
        if not path.is_file():
            raise ChimeraError(f"{spec}: no such file; expected {FORMS}")
        if path.suffix.lower() == ".npz":
            return networks.load(path)
        from chimera_lib.images import onnx

        return onnx.read(path)
    if path.exists() or path.parent.name:
        raise ChimeraError(f"{spec} is no model that can be read; expected {FORMS}")
    raise UnknownName("model", spec, shipped, f"or name {FORMS}")


def normalised(network: Network, how: str) -> Network:
    """The network with ``(x - mean) / std`` by channel before it, x being ``uint8 / 255``.

    ``how`` is ``none``, ``imagenet``, ``half`` (to -1..1), or ``m,m,m/s,s,s`` with a number for each channel.
    Raises ChimeraError for anything else.
    """
    if how == "none":
        return network
    channels = network.input_shape[0]
    try:
        mean, std = NORMALISATIONS.get(how) or tuple(
            tuple(float(number) for number in part.split(",")) for part in how.split("/")
        )
    except ValueError:
        mean = std = ()
    if len(mean) != channels or len(std) != channels or not all(np.isfinite([*mean, *std])) or min(std) <= 0:
        kinds = ", ".join(["none", *NORMALISATIONS])
        raise ChimeraError(f"--normalise {how}: expected {kinds}, or {channels} means / {channels} positive deviations")
    ops: list[dict[str, Any]] = [
        {"op": "constant", "in": ["input"], "out": "normalise.sub", "function": "sub", "value": "normalise.mean"},
        {"op": "constant", "in": ["normalise.sub"], "out": "normalised", "function": "div", "value": "normalise.std"},
    ]
    ops += [{**op, "in": ["normalised" if name == "input" else name for name in op["in"]]} for op in network.ops]
    arrays = {
        "normalise.mean": np.array(mean, np.float32).reshape(-1, 1, 1),
        "normalise.std": np.array(std, np.float32).reshape(-1, 1, 1),
    }
    return replace(network, ops=ops, arrays={**network.arrays, **arrays})
