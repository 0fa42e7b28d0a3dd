"""What fake quantization costs in training: a ResNet-20's forward and backward pass, as a ratio to full precision.

``python benchmarks/ternary_layers.py`` takes steps on one batch of 64 random images of 32 x 32 pixels. A repeat times a
step of the ternary network and at once one of the full-precision network (in turns, either first), so that a ratio is
one of the same moment on a busy machine; printed are medians over the repeats and their 95 % bootstrap intervals.

``--allocator keep`` has the C library keep freed memory (`chimera_lib.ternary.allocator`), for both networks of a pair;
``default`` leaves it as it is, which costs the ternary network more; its metrics end in ``_default_allocator``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import reporting
import torch
import torch.nn.functional as F

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary import allocator
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
KEEP, DEFAULT = "keep", "default"
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # what glibc reads them from before a process starts


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
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="networks to compare")
    add("--batch", type=reporting.whole(1, 4096), default=64, help="images of a step")
    add("--side", type=reporting.whole(4, 4096), default=32, help="pixels of an image's side")
    add("--repeats", type=reporting.whole(2, 4096), default=25, help="pairs of timings")
    add("--threads", type=reporting.whole(1, 256), default=1, help="threads of torch")
    add("--allocator", nargs="+", choices=[KEEP, DEFAULT], default=[KEEP], help="freed memory is kept, or as usual")
    add("--clock", choices=list(reporting.CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    add("--record", type=reporting.file, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


def check(chosen: argparse.Namespace) -> None:
    """Refuse what would not be what it is called.

    Raises:
        ChimeraError: the default allocator is asked for in an environment that has set another.
    """
    if DEFAULT in chosen.allocator and (found := [name for name in VARIABLES if name in os.environ]):
        raise ChimeraError(f"--allocator default with {found[0]} set in the environment: unset it, or use keep alone")


def measure(chosen: argparse.Namespace, condition: str) -> dict[str, Any]:
    """Measure and print every case under one allocator."""
    torch.set_num_threads(chosen.threads)
    kept = condition == KEEP and allocator.keep_memory()
    if condition == KEEP and not kept:
        print("the C library is not glibc: there is nothing to set, and what follows is its default")
    print(f"\nfreed memory is {'kept' if kept else 'handled as the C library does by default'}")
    print(f"{'network':<22}{'ours, ms':>9}{'fp32, ms':>9}  ratio [95 % interval]   bar {BAR}")
    metrics: dict[str, Any] = {}
    for name in chosen.cases:
        ours, plain = compare(name, chosen.batch, chosen.side, chosen.repeats, reporting.CLOCKS[chosen.clock])
        metric = metrics[f"{name}_ratio" + "_default_allocator" * (not kept)] = reporting.ratio(ours, plain)
        met = "met" if metric["value"] <= BAR else "not met"
        times = f"{np.median(ours):>9.1f}{np.median(plain):>9.1f}"
        print(f"{name:<22}{times}  {reporting.said(metric, 3)}   {met}", flush=True)
    return metrics


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    check(chosen)
    print(f"{chosen.clock} time of a step, {chosen.threads} thread(s); medians of {chosen.repeats} repeats", flush=True)
    metrics: dict[str, Any] = {}
    for condition in dict.fromkeys(chosen.allocator):
        # A process of its own: what is set cannot be undone, and a heap remembers what was in it before.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            metrics |= alone.submit(measure, chosen, condition).result()
    reporting.record(chosen.record, "ternary_layers.py", metrics)


if __name__ == "__main__":
    reporting.main(run, arguments)
