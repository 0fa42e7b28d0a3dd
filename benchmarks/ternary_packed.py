"""What packed ternary layers cost beside torch's own: time, bytes, and how far their answers lie apart.

``python benchmarks/ternary_packed.py`` times one square linear layer on one vector and on a batch. Every contender does
its whole work in every call: packed layers and their peers quantize their input, and unpack where they do not keep.
Contenders take turns (`chimera_lib.ternary.packed.contenders`): weights are read from memory, as between a network's
other layers. A speed-up is fp32's time over the contender's in the same turn: the median over turns with its 95 %
bootstrap interval, and beside it the ratio of the shortest of all. Times themselves are not reported.

Peers: torch in fp32 and bf16, the fake-quantised layer that is packed, transformers' ``BitLinear`` (2 bits a weight,
unpacked in each call, int8 levels in each row), and torchao's int8 x int8 layer. Those that are not installed are left
out, with the reason.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING, Any

import reporting
import torch
from torch import Tensor

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.contenders import BASE, ROUNDS, contenders, timed
from chimera_lib.ternary.packed.layers import PackedBitLinear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from chimera_lib.ternary.packed.contenders import Contenders

BARS = {"vector of 4096: 2bit": 1.5, "batch of 128 x 4096: 2bit": 3.0}
LEAST_BYTES = {"2bit": 15.0, "base3": 18.0}


def speed(setting: str, seconds: Mapping[str, np.ndarray]) -> tuple[list[str], dict[str, Any]]:
    """The lines of a table of speed-ups, and the same as metrics."""
    lines = [f"\n{setting}", f"{'':<28}{'x fp32, median of turns':>28}{'shortest':>10}   bar"]
    metrics: dict[str, Any] = {}
    for name, values in seconds.items():
        metric = reporting.ratio(seconds[BASE], values)
        shortest = float(seconds[BASE].min() / values.min())
        bar = BARS.get(f"{setting}: {name}")
        said = "" if bar is None else f"{bar} {'met' if metric['value'] >= bar else 'NOT met'}"
        lines.append(f"{name:<28}{reporting.said(metric, 2):>25}{shortest:>13.2f}   {said}")
        key = f"{setting.split()[0]}_{name}".replace("'", "").replace(",", "").replace(" ", "_").replace("-", "_")
        metrics[f"{key}_over_fp32"] = metric
        metrics[f"{key}_over_fp32_shortest"] = {"value": shortest, "n": len(values)}
    return lines, metrics


def answers(made: Contenders, x: Tensor, layer: BitLinear) -> tuple[list[str], dict[str, Any]]:
    """How far packed answers to a batch lie from the fake-quantised layer's, and both from exact arithmetic's."""
    codes, scale, _ = layer.quantizer.trits(layer.weight)  # strict_bitnet has one scale
    assert layer.activation is not None
    levels, step = layer.activation.codes(x)
    exact = (levels.double() @ codes.double().t()) * (scale.double() * step.double())
    fake = layer(x).double()
    metrics: dict[str, Any] = {}
    lines = ["\nlargest difference of an output, relative to the largest output"]
    for name in ("fake-quantised", *CODECS):
        found = made[name](x).double()
        to_exact, to_fake = (float((found - o).abs().max() / o.abs().max()) for o in (exact, fake))
        lines.append(f"{name:<28}from float64 {to_exact:.1e}   from the fake-quantised layer {to_fake:.1e}")
        metrics |= {f"{name}_from_float64".replace("-", "_"): to_exact, f"{name}_from_fake".replace("-", "_"): to_fake}
    return lines, metrics


def sizes(made: Contenders) -> tuple[list[str], dict[str, Any]]:
    """How many times smaller than fp32 the packed weights are, with their scales."""
    metrics: dict[str, Any] = {}
    lines = ["\ntimes smaller than fp32, scales included"]
    for name, bar in LEAST_BYTES.items():
        layer = made[name]
        assert isinstance(layer, PackedBitLinear)
        value = 4 * layer.weight_shape.numel() / layer.storage()
        lines.append(f"{name:<28}{value:>12.2f}   bar {bar} {'met' if value >= bar else 'NOT met'}")
        metrics[f"{name}_times_smaller"] = value
    return lines, metrics


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--size", type=reporting.whole(16, 16384), default=4096, help="rows and columns of the weight, a multiple of 4")
    add("--batch", type=reporting.whole(2, 4096), default=128, help="rows of the batch")
    add("--turns", type=reporting.whole(2, 10_000), default=12, help=f"of {ROUNDS} calls of each contender")
    add("--threads", type=reporting.whole(1, 256), default=1, help="threads that torch may use")
    add("--seed", type=reporting.whole(0, 2**31), default=0, help="of the weights, inputs and the order of turns")
    add("--record", type=reporting.file, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


@torch.no_grad()
def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    if chosen.size % 4:
        raise ChimeraError(f"--size {chosen.size}: expected a multiple of 4, which transformers' BitLinear wants")
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    begun = time.perf_counter()
    facts = matvec.info()
    print(
        f"kernels: {facts['kernel']} {facts['reason']}; the first took {time.perf_counter() - begun:.1f} s to be ready"
    )
    print(f"one layer of {chosen.size} x {chosen.size}, {facts['threads']} thread(s), {chosen.turns} turns")
    layer = BitLinear(chosen.size, chosen.size, bias=False, mode="strict_bitnet").eval()
    made, left_out = contenders(layer, facts["kernel"] == "compiled")
    print("".join(f"{name} is left out: {reason}\n" for name, reason in left_out.items()), end="")
    batch = torch.randn(chosen.batch, chosen.size)
    metrics: dict[str, Any] = {"size": chosen.size, "batch": chosen.batch, "threads": chosen.threads}
    for rows, setting in ((1, "vector of"), (chosen.batch, f"batch of {chosen.batch} x")):
        lines, more = speed(f"{setting} {chosen.size}", timed(made, batch[:rows], chosen.turns, chosen.seed))
        print("\n".join(lines), flush=True)
        metrics |= more
    for lines, more in (sizes(made), answers(made, batch, layer)):
        print("\n".join(lines))
        metrics |= more
    metrics |= {f"left_out_{name}".replace(" ", "_"): reason for name, reason in left_out.items()}
    reporting.record(chosen.record, "ternary_packed.py", metrics, {"packed": facts})


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, of what its compiler imports
    reporting.main(run, arguments)
