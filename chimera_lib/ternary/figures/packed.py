"""Figures of notebook ``ternary/06``: trits in bytes, the sizes of layers, entropy beside storage, and speed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from chimera_lib.plotting import COLOURS
from chimera_lib.ternary.packed.codes import CODECS, Codec
from chimera_lib.ternary.quantizers.statistics import entropy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chimera_lib.ternary.packed.sizes import Size

FILL = {-1: COLOURS[4], 0: "#E4E4E4", 1: COLOURS[5]}
SIGN = {-1: "-1", 0: "0", 1: "+1"}
FIELD = {-1: "11", 0: "00", 1: "01"}  # two's complement in two bits
NAMES = {"2bit": "2 bits a weight", "base3": "5 weights a byte"}


def pieces(codes: np.ndarray, codec: Codec) -> np.ndarray:
    """Which weights a byte holds: int (B, p), the number of the weight at each place, -1 where the row has ended."""
    count = codec.length(len(codes))
    places = np.arange(codec.per_byte * count).reshape(codec.per_byte, count).T
    return np.where(places < len(codes), places, -1)


def bytes_of_a_row(codes: np.ndarray) -> Figure:
    """A row of codes (K,) in {-1, 0, 1}, and the bytes that hold it in either codec, place by place."""
    figure, axes = plt.subplots(3, 1, figsize=(7.0, 5.2), height_ratios=[1.1, 2.0, 2.0])
    _row(axes[0], codes)
    axes[0].set_title(f"{len(codes)} ternary weights, numbered")
    for axis, (name, codec) in zip(axes[1:], CODECS.items(), strict=True):
        packed = codec.encode(torch.from_numpy(codes.astype(np.int8))).tolist()
        axis.set_title(f"{NAMES[name]}: {len(packed)} bytes")
        held = pieces(codes, codec)
        gap = 0.35
        width = codec.per_byte + gap
        for byte, (numbers, value) in enumerate(zip(held, packed, strict=True)):
            for place, number in enumerate(numbers):
                code = int(codes[number]) if number >= 0 else 0
                _cell(axis, byte * width + place, 0, code, SIGN[code])
                axis.text(byte * width + place + 0.5, -0.35, str(number), ha="center", fontsize=8, color="#555555")
            axis.text(byte * width + codec.per_byte / 2, 1.35, f"byte {byte}: {value}", ha="center", fontsize=9)
        _bare(axis, (-0.1, len(packed) * width - gap + 0.1), (-0.7, 1.9))
    return figure


def byte_frame(weights: np.ndarray, codes: np.ndarray, threshold: float, codec: Codec, byte: int) -> Figure:
    """One byte of a packed row: the weights that are in it, their codes, and how they make its value.

    Args:
        weights: full-precision, (K,); ``codes`` are their ternary codes.
        threshold: what a weight's magnitude must exceed not to be 0.
        codec: of the bytes.
        byte: the number of the byte that is shown.
    """
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.0, 4.6), height_ratios=[2.2, 1.5])
    held = [int(number) for number in pieces(codes, codec)[byte] if number >= 0]
    edges = ["black" if i in held else "none" for i in range(len(codes))]
    above.axhspan(-threshold, threshold, color="#E6E6E6", label="becomes 0")
    above.bar(
        range(len(codes)),
        weights,
        color=[FILL[int(c)] if c else "#A0A0A0" for c in codes],
        edgecolor=edges,
        linewidth=1.8,
    )
    above.axhline(0, color="#888888", linewidth=0.8)
    most = 1.35 * float(np.abs(weights).max())
    above.set(xlabel="weight's number", ylabel="trained weight", xticks=range(len(codes)), ylim=(-most, most))
    above.legend(loc="upper right")
    value = int(codec.encode(torch.from_numpy(codes.astype(np.int8)))[byte])
    for place, number in enumerate(held):
        code = int(codes[number])
        _cell(below, place * 1.6, 0, code, SIGN[code], width=1.3)
        said = FIELD[code] if codec.per_byte == 4 else f"{code + 1} x {3**place}"
        below.text(place * 1.6 + 0.65, -0.45, said, ha="center", fontsize=11)
        below.text(place * 1.6 + 0.65, 1.25, f"weight {number}", ha="center", fontsize=9)
    bits = " ".join(FIELD[int(codes[number])] for number in reversed(held))
    terms = " + ".join(f"{int(codes[number]) + 1}·{3**place}" for place, number in enumerate(held))
    sum_said = f"bits {bits} = {value}" if codec.per_byte == 4 else f"{terms} = {value}"
    below.set_title(f"{NAMES[codec.name]}, byte {byte}: {sum_said}")
    _bare(below, (-0.1, 8.0), (-0.9, 1.8))
    return figure


def sizes(by_codec: Mapping[str, Sequence[Size]], bars: Mapping[str, float]) -> Figure:
    """How many times smaller than fp32 each layer is, in each codec, scales included; dashed: what is aimed at."""
    rows = next(iter(by_codec.values()))
    figure, axis = plt.subplots(figsize=(7.0, 0.26 * len(rows) + 1.5))
    y = np.arange(len(rows))
    for number, (codec, layers) in enumerate(by_codec.items()):
        colour = COLOURS[number]
        axis.scatter([size.times_smaller for size in layers], y, color=colour, label=NAMES[codec], zorder=3)
        axis.axvline(bars[codec], color=colour, linestyle="--", linewidth=1.2)
    axis.set_yticks(y, [f"{size.layer}  ({size.weights:,})" for size in rows])
    axis.invert_yaxis()
    low = min(min(bars.values()), *(size.times_smaller for layers in by_codec.values() for size in layers))
    axis.set(xlabel="times smaller than fp32, scales included", ylabel="layer (weights)", xlim=(low - 1.0, 21))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def storage_and_entropy(by_codec: Mapping[str, Sequence[Size]], *, target: float = 1.32) -> Figure:
    """Bits a weight against the share of zeros: entropy as a curve, each layer's entropy, and what is stored.

    Args:
        by_codec: the layers' sizes in each codec.
        target: entropy to mark on the curve's right branch.
    """
    figure, axis = plt.subplots(figsize=(7.0, 4.0))
    zeros = np.linspace(0, 1, 201)
    curve = [entropy(z, (1 - z) / 2, (1 - z) / 2) for z in zeros]
    axis.plot(zeros, curve, color="#555555", label="entropy, as many +1 as -1")
    for number, (codec, layers) in enumerate(by_codec.items()):
        x = [size.zero_ratio for size in layers]
        axis.scatter(x, [size.bits for size in layers], color=COLOURS[number], s=22, label=f"stored: {NAMES[codec]}")
    layers = next(iter(by_codec.values()))
    bits = [size.effective_bits for size in layers]
    axis.scatter(x, bits, color=COLOURS[2], marker="D", s=20, zorder=3, label="a layer's entropy")
    axis.axhline(target, color="#888888", linestyle=":", linewidth=1.2)
    axis.text(0.01, target + 0.03, f"{target} bits", color="#555555", fontsize=9)
    axis.set(xlabel="share of weights that are 0", ylabel="bits a weight", xlim=(0, 1), ylim=(0, 2.25))
    axis.legend(loc="lower left", bbox_to_anchor=(0.08, 0.02))
    return figure


def speeds(settings: Mapping[str, Mapping[str, Mapping[str, Any]]], bars: Mapping[str, float]) -> Figure:
    """Speed beside fp32 of each contender in each setting.

    Args:
        settings: by setting and contender, a metric of ``value`` and ``ci``: fp32's time over the contender's.
        bars: by setting, what the packed layer aims at.
    """
    names = list(next(iter(settings.values())))
    figure, axes = plt.subplots(1, len(settings), figsize=(7.0, 0.42 * len(names) + 1.6), sharey=True, squeeze=False)
    y = np.arange(len(names))
    for axis, (setting, metrics) in zip(axes[0], settings.items(), strict=True):
        values = np.array([metrics[name]["value"] for name in names])
        ends = np.array([metrics[name]["ci"] for name in names])
        bounds = np.abs(np.stack([values - ends[:, 0], ends[:, 1] - values]))
        colours = [COLOURS[0] if name in CODECS else "#777777" for name in names]
        for i in range(len(names)):
            axis.errorbar(values[i], y[i], xerr=bounds[:, i : i + 1], fmt="o", color=colours[i])
        axis.axvline(1, color="#888888", linewidth=1)
        axis.axvline(bars[setting], color=COLOURS[1], linestyle="--", linewidth=1.4)
        axis.set_xscale("log")
        wide = values.max() > 40 * values.min()
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set(title=setting, xlabel="times as fast as fp32")
    axes[0, 0].set_yticks(y, names)
    axes[0, 0].invert_yaxis()
    return figure


def _row(axis: Axes, codes: np.ndarray) -> None:
    for i, code in enumerate(codes):
        _cell(axis, i, 0, int(code), SIGN[int(code)])
        axis.text(i + 0.5, -0.35, str(i), ha="center", fontsize=8, color="#555555")
    _bare(axis, (-0.1, len(codes) + 0.1), (-0.7, 1.2))


def _cell(axis: Axes, x: float, y: float, code: int, text: str, *, width: float = 1.0) -> None:
    axis.add_patch(Rectangle((x, y), width, 1, facecolor=FILL[code], edgecolor="white", linewidth=1.5))
    axis.text(x + width / 2, y + 0.5, text, ha="center", va="center", fontsize=9)


def _bare(axis: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    axis.set(xlim=xlim, ylim=ylim)
    axis.set_axis_off()
