"""The app that the verbs register on, the options that several of them share, and what those names stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chimera_lib.errors import ChimeraError
from chimera_lib.option_checks import at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import nn

    from chimera_lib.images.network import Network

app = typer.Typer(
    help="Chimera images: find them, check them, explain them, audit a model, defend it.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


ModelName = Annotated[str, typer.Option("--model", help="cifarvgg, resnet20 or efficientnet-lite0.")]
Pair = Annotated[str, typer.Option(help="Backends to set against each other, with commas between.")]
Evaluations = Annotated[int, typer.Option(help="Forward evaluations a start may cost.", callback=at_least(1))]
OracleCalls = Annotated[int, typer.Option(help="Images a start may show to the backends.", callback=at_least(1))]
Record = Annotated[Path | None, typer.Option(help="Write the metrics to this JSON file too.")]
Seed = Annotated[int, typer.Option(help="Of every random draw.", callback=at_least(0))]


def load_model(name: str) -> tuple[nn.Module, Network]:
    """The network by name, as a torch module on one thread and as the backends' form of it."""
    import torch

    from chimera_lib.images import models
    from chimera_lib.images.network import from_torch

    torch.set_num_threads(1)  # the number of threads changes the last bits
    model = models.load(name)
    return model, from_torch(model, models.input_shape(name))


def names(text: str) -> list[str]:
    """Split a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def whole_numbers(text: str) -> list[int]:
    """Different whole numbers, none negative, from a list with commas; raises ChimeraError."""
    parts = names(text)
    if not parts or not all(part.isdecimal() for part in parts) or len(set(map(int, parts))) < len(parts):
        raise ChimeraError(f"--seeds {text}: expected different whole numbers with commas between, such as 0,1,2")
    return [int(part) for part in parts]


def two(text: str) -> tuple[str, str]:
    """Exactly two different names; raises ChimeraError."""
    pair = names(text)
    if len(pair) != 2 or pair[0] == pair[1]:
        raise ChimeraError(f"--pair {text}: expected two different backends with a comma, such as openblas,blis")
    return pair[0], pair[1]


def test_images() -> np.ndarray:
    """The CIFAR-10 test images, uint8 (10000, 32, 32, 3)."""
    from chimera_lib import cifar10

    return cifar10.load()["test_images"]


def start_images(model: str, count: int | None = None) -> np.ndarray:
    """What searches on network ``model`` start from, or the first ``count`` of them, uint8 (N, H, W, 3).

    CIFAR-10's test images, or photographs of groceries for the network that takes images of that size.
    """
    from chimera_lib import photos
    from chimera_lib.images import models

    if model == models.PHOTOGRAPHS:
        return photos.load(min(count or photos.total(), photos.total()))
    return test_images()[:count]


def class_names(model: str) -> Sequence[str]:
    """The names of network ``model``'s classes, in the order of its logits."""
    from chimera_lib import cifar10, efficientnet
    from chimera_lib.images import models

    return efficientnet.class_names() if model == models.PHOTOGRAPHS else cifar10.CLASSES
