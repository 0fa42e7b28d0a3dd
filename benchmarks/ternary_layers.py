"""What fake quantization costs in training: a ResNet-20's forward and backward pass, as a ratio to full precision.

``python benchmarks/ternary_layers.py`` takes steps on one batch of 64 random images of 32 x 32 pixels. A repeat times a
step of the ternary network and at once one of the full-precision network (in turns, either first), so that a ratio is
one of the same moment on a busy machine; printed are medians over the repeats and their 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from chimera_lib import recorded, stats
from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.resnet import BASELINE, ChimeraResNet20

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BAR = 1.15
ALL: dict[str, Any] = {"first_last_fp32": False}  # all 20 layers ternary
CASES: dict[str, dict[str, Any]] = {
    "chimera": {"mode": "chimera", **ALL},
    "chimera_ends_fp32": {"mode": "chimera"},
    "chimera_optimal": {"mode": "chimera", "scale": "optimal", **ALL},
    "chimera_weights_only": {"mode": "chimera", "activation": None, **ALL},
    "strict_bitnet": {"mode": "strict_bitnet", **ALL},
    "ttq": {"mode": "ttq", **ALL},
    "lsq": {"mode": "lsq", **ALL},
}
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def network(**options: Any) -> ChimeraResNet20:
    """A network in training mode, with the same weights at each call."""
    torch.manual_seed(0)
    return ChimeraResNet20(**options)


def compare(
    name: str, batch: int, side: int, repeats: int, clock: Callable[[], float]
) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of a step of the ternary network, and of the full-precision one, (repeats,) each."""
    networks = (network(**CASES[name]), network(mode=BASELINE))
    images, labels = torch.randn(batch, 3, side, side), torch.randint(0, 10, (batch,))

    def step(model: ChimeraResNet20) -> float:
        start = clock()
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        return (clock() - start) * 1e3

    for model in networks * 2:
        step(model)
    times = np.empty((2, repeats))
    for repeat in range(repeats):
        for row in (0, 1) if repeat % 2 else (1, 0):
            times[row, repeat] = step(networks[row])
    return times[0], times[1]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""

    def whole(least: int) -> Callable[[str], int]:
        def read(text: str) -> int:
            if not text.isdecimal() or not least <= int(text) <= 4096:
                raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} to 4096")
            return int(text)

        return read

    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="networks to compare")
    add("--batch", type=whole(1), default=64, help="images of a step")
    add("--side", type=whole(4), default=32, help="pixels of an image's side")
    add("--repeats", type=whole(2), default=25, help="pairs of timings")
    add("--threads", type=whole(1), default=1, help="threads of torch")
    add("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    add("--record", type=Path, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    torch.set_num_threads(chosen.threads)
    print(f"{chosen.clock} time of a step, {chosen.threads} thread(s); medians of {chosen.repeats} repeats")
    print(f"{'network':<22}{'ours, ms':>9}{'fp32, ms':>9}  ratio [95 % interval]   bar {BAR}")
    metrics: dict[str, Any] = {}
    for name in chosen.cases:
        ours, plain = compare(name, chosen.batch, chosen.side, chosen.repeats, CLOCKS[chosen.clock])
        ratios = ours / plain
        ratio, (low, high) = float(np.median(ratios)), stats.bootstrap(ratios)
        met = "met" if ratio <= BAR else "not met"
        times = f"{np.median(ours):>9.1f}{np.median(plain):>9.1f}"
        print(f"{name:<22}{times}  {ratio:.3f} [{low:.3f}, {high:.3f}]   {met}", flush=True)
        metrics[f"{name}_ratio"] = {"value": ratio, "n": chosen.repeats, "ci": [low, high]}
    if chosen.record:
        recorded.write(chosen.record, shlex.join(["python", "benchmarks/ternary_layers.py", *sys.argv[1:]]), metrics)
        print(f"metrics in {chosen.record}")


if __name__ == "__main__":
    try:
        run(arguments(sys.argv[1:]))
    except (ChimeraError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
