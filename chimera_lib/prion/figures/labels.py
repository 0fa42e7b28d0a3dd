"""What readers are told instead of the names that the code uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.plotting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.axes import Axes

TREATMENTS = {
    "eigen_prion": "near-null catalyst",
    "eigen_prion_hard": "its nearest tokens",
    "gaussian_noise": "Gaussian noise, repeated",
    "random_fixed": "random tokens, repeated",
    "text_fixed": "one passage, repeated",
    "random_tokens": "random tokens, new each step",
    "random_text": "passages, new each step",
    "sham": "nothing (rate 0)",
}
COLOUR = dict(zip(TREATMENTS, ("#000000", *COLOURS), strict=False))
OPTIMIZERS = {"adamw": "AdamW", "adafactor": "Adafactor", "sgd-momentum": "SGD, momentum", "sgd": "SGD"}
PRECISIONS = {
    "fp32": "fp32, all weights",
    "fp32-lora": "fp32, LoRA",
    "8bit-lora": "8-bit, LoRA",
    "4bit-lora": "NF4, LoRA",
}
FAULTS = {
    "as published": "as published",
    "sharp_end": "search for the flat end",
    "unused_directions": "use the near-null directions",
    "double_shift": "shift labels once",
    "adafactor": "AdamW that is AdamW",
    "plain_controls": "same optimizer for controls",
    "fresh_controls": "repeat the control too",
    "unmatched_noise": "noise as large as embeddings",
    "one_text_seed": "a text of its own a run",
    "early_stop": "no early stop",
    "five_sentences": "2,048 held-out positions",
    "rate_by_size": "one rate for all sizes",
    "absolute": "signed changes",
}
DAMAGE = "log-perplexity change (nats)"
RANK = "rank reduction (%)"
MOVED = "change of the weights (norm)"


def size(parameters: float) -> str:
    """A number of parameters for an axis: ``0.3 M``, ``1.4 B``."""
    return f"{parameters / 1e9:.2g} B" if parameters >= 1e9 else f"{parameters / 1e6:.2g} M"


def over_size(axis: Axes, sizes: Iterable[float]) -> None:
    """Make an axis one of model sizes: logarithmic, with a tick at each of them."""
    from matplotlib.ticker import FixedLocator, NullLocator

    ticks = sorted(sizes)
    axis.set(xscale="log", xlabel="parameters")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([size(one) for one in ticks])
