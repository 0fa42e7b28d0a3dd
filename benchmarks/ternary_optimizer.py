"""What a step of Chimera 2.1 costs, as a ratio to torch's AdamW stepped in turn with it in the same run.

``python benchmarks/ternary_optimizer.py`` steps the parameters of a ResNet-20 (65 tensors, .27 million elements) and 20
million parameters (81 tensors). Uncompiled steps are compared with AdamW(foreach), the compiled one with
AdamW(fused). A repeat times a few steps of the one and at once a few of the other, so that a ratio is one of the same
moment on a busy machine; printed are medians over the repeats and their 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import reporting
import torch

from chimera_lib.ternary.optimizers import Chimera21

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BLOCKS = [(16, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
STEPS = {"resnet20": 30, "20M": 1}  # of a repeat
BAR = 1.5
FOREACH, FUSED = {"foreach": True}, {"fused": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {  # options of ours, and of the AdamW it is compared with
    "as_published": ({}, FOREACH),
    "compiled": ({"compiled": True}, FUSED),
    "one_by_one": ({"foreach": False}, FOREACH),
    "unchecked": ({"check_finite": False}, FOREACH),
    "compiled_unchecked": ({"compiled": True, "check_finite": False}, FUSED),
    "neutral_floor": ({"neutral": "floor"}, FOREACH),
    "neutral_mean": ({"neutral": "mean"}, FOREACH),
    "int8": ({"psi_storage": "int8"}, FOREACH),
    "int8_compiled": ({"psi_storage": "int8", "compiled": True}, FUSED),
}


def shapes(size: str) -> Sequence[tuple[int, ...]]:
    """The shapes of the parameters of a ResNet-20 with projections, or of 20 million in layers of a million."""
    if size == "20M":
        return [(1000, 1000)] * 16 + [(1024,)] * 64 + [(2000, 2000)]
    made: list[tuple[int, ...]] = [(16, 3, 3, 3), (16,), (16,)]
    for before, after in BLOCKS:
        made += [(after, before, 3, 3), (after,), (after,), (after, after, 3, 3), (after,), (after,)]
        made += [(after, before, 1, 1), (after,), (after,)] * (before != after)
    return [*made, (10, 64), (10,)]


def parameters(size: str) -> list[torch.nn.Parameter]:
    """Parameters with gradients, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes(size)]
    for one in made:
        one.grad = torch.randn(one.shape, generator=generator) * 0.01
    return made


def compare(size: str, name: str, repeats: int, clock: Callable[[], float]) -> tuple[np.ndarray, np.ndarray]:
    """Milliseconds of a step of ours, and of AdamW, (repeats,) each."""
    ours_options, peer_options = CASES[name]
    ours = Chimera21(parameters(size), **ours_options)
    peer = torch.optim.AdamW(parameters(size), weight_decay=0.0, **peer_options)  # type: ignore[arg-type]
    for optimizer in (ours, peer) * 3:
        optimizer.step()  # makes the state, compiles
    times = np.empty((2, repeats))
    for repeat in range(repeats):
        order = ((0, ours), (1, peer)) if repeat % 2 else ((1, peer), (0, ours))
        for row, optimizer in order:
            optimizer.step()  # brings its own data into the caches
            start = clock()
            for _ in range(STEPS[size]):
                optimizer.step()
            times[row, repeat] = (clock() - start) / STEPS[size] * 1e3
    return times[0], times[1]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--sizes", nargs="+", choices=list(STEPS), default=list(STEPS), help="parameters to step")
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="options to step them with")
    add("--repeats", type=reporting.whole(2, 1000), default=15, help="pairs of timings")
    add("--threads", type=reporting.whole(1, 256), default=1, help="threads of torch")
    add("--clock", choices=list(reporting.CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    add("--record", type=reporting.file, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    torch.set_num_threads(chosen.threads)
    print(f"{chosen.clock} time of a step, {chosen.threads} thread(s); medians of {chosen.repeats} repeats")
    print(f"{'size':<10}{'case':<20}{'peer':<16}{'ours, ms':>9}{'peer, ms':>9}  ratio [95 % interval]   bar {BAR}")
    metrics: dict[str, Any] = {}
    for size in chosen.sizes:
        for name in chosen.cases:
            ours, peer = compare(size, name, chosen.repeats, reporting.CLOCKS[chosen.clock])
            metric = metrics[f"{size}_{name}_ratio"] = reporting.ratio(ours, peer)
            against = f"AdamW({next(iter(CASES[name][1]))})"
            met = "met" if metric["value"] <= BAR else "not met"
            times = f"{np.median(ours):>9.3f}{np.median(peer):>9.3f}"
            print(f"{size:<10}{name:<20}{against:<16}{times}  {reporting.said(metric, 2)}   {met}", flush=True)
    reporting.record(chosen.record, "ternary_optimizer.py", metrics)


if __name__ == "__main__":
    reporting.main(run, arguments)
