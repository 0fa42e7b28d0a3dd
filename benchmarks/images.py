"""What a search for chimera images costs as pictures, networks and oracles grow, against the sources' strategies.

``python benchmarks/images.py`` answers three questions, one table each: how the cost of ``lattice`` grows with the
number of pixels, with depth, and with the number of backends. Its peers start from the same pictures at the same
budget in the same run, so that every ratio is one of costs paired by start. A killed run goes on where it stopped.

A search that ends without a chimera has cost at least what it spent: a median or ratio that such searches could move
is marked ``>=`` (at least), ``<=`` (at most) or ``~`` (either way). Pictures are training images of CIFAR-10 from
number 49000 on, enlarged where a network is to take more pixels, and photographs from number 500 on; no test image.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import cifar10, photos, recorded, stats
from chimera_lib.efficientnet import EfficientNetLite0
from chimera_lib.errors import AssetMissing, BackendUnavailable, ChimeraError
from chimera_lib.images import campaign, models
from chimera_lib.images.network import from_torch
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search.protocol import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    Rows = dict[str, list[campaign.Row]]  # by strategy
    Pair = tuple[tuple[str, list[campaign.Row]], tuple[str, list[campaign.Row]]]  # what is compared with what

PAIR = ("openblas", "blis")
FOUR = (*PAIR, "mkl", "onnxruntime")
OURS = "lattice"
PEERS = (OURS, "hardware_in_the_loop", "boundary_straight_through", "dense_multiscale")
CHEAP = PEERS[:2]  # for EfficientNet, of which the others would spend most of the run at their caps
NETWORKS = (*models.MODELS, models.PHOTOGRAPHS)
PHOTO_SIDES = (64, 112, 224)
FIRST, FIRST_PHOTO = 49_000, 500  # of CIFAR-10's training images, and of the photographs
MOST = 1000  # starts
QUANTITIES = {"evaluations": "evaluations", "oracle_calls": "oracle calls", "cpu_seconds": "CPU-seconds"}
QUESTIONS = {
    "pixels": "number of pixels",
    "depth": "depth (one network against another of the same number of pixels)",
    "backends": "number of backends (lattice: any two disagree; lattice_kway: all k name different classes)",
}


@dataclass(frozen=True)
class Setting:
    """One network, at one size, before one oracle; costs are compared with those of the first of its ``group``."""

    group: str
    network: str
    side: int
    backends: tuple[str, ...] = PAIR
    strategies: tuple[str, ...] = PEERS
    photographs: bool = False

    @property
    def key(self) -> str:
        """Names the measurement: equal keys, equal searches."""
        return f"{self.network}-{self.side}{'-photos' * self.photographs}-{len(self.backends)}-backends"


@dataclass(frozen=True)
class Figure:
    """A median over n starts with its interval, and which way searches without a find could move it."""

    value: float
    n: int
    interval: tuple[float, float]
    bound: str

    def __str__(self) -> str:
        middle, low, high = (f"{one:.3g}" if one < 1000 else f"{one:.0f}" for one in (self.value, *self.interval))
        return f"{self.bound}{middle} [{low}, {high}]"


def settings(question: str, sides: Sequence[int], networks: Sequence[str]) -> list[Setting]:
    """What to measure for a question; of each group, the first is what the others are compared with."""
    small, large = sides[0], sides[-1]
    if question == "pixels":
        made = [Setting("resnet20", "resnet20", side) for side in sides]
        for side in PHOTO_SIDES:
            made.append(Setting(models.PHOTOGRAPHS, models.PHOTOGRAPHS, side, PAIR, CHEAP, photographs=True))
    elif question == "depth":
        made = [Setting("32 px", "cifarvgg", 32), Setting("32 px", "resnet20", 32)]
        made.append(Setting(f"{large} px", "resnet20", large))
        made.append(Setting(f"{large} px", models.PHOTOGRAPHS, large, PAIR, CHEAP))
    else:
        network, side = ("cifarvgg", 32) if "cifarvgg" in networks else (networks[0], small)
        both = (OURS, "lattice_kway")
        made = [Setting("all", network, side, FOUR[:count], both) for count in (2, 3, 4)]
    return [one for one in made if one.network in networks]


def network_of(setting: Setting) -> nn.Module:
    """The trained network for pictures of the setting's side; what it learnt does not depend on it."""
    import torch

    module = models.load(setting.network)
    if setting.network == models.PHOTOGRAPHS and setting.side != photos.SIZE:
        resized = EfficientNetLite0(setting.side)  # its padding depends on the side
        resized.load_state_dict(module.state_dict())
        return resized.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return module


def pictures_of(setting: Setting, starts: int) -> np.ndarray:
    """The pictures to start from, uint8 (N, side, side, 3): half as many for the network for photographs."""
    from PIL import Image

    if setting.network == models.PHOTOGRAPHS:
        starts = max(2, starts // 2)
    if setting.photographs:
        return photos.load(starts, setting.side, FIRST_PHOTO)
    images = cifar10.load()["train_images"][FIRST : FIRST + starts]
    if setting.side == images.shape[1]:
        return images
    size = (setting.side, setting.side)
    return np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in images])


def measure(setting: Setting, starts: int, budget: Budget, output: Path) -> tuple[Rows, dict[str, dict[str, str]]]:
    """Search by each strategy from the same starts; rows by strategy, and what each backend says it is."""
    module, images = network_of(setting), pictures_of(setting, starts)
    measured, starts = {}, len(images)
    with Oracle(from_torch(module, (3, setting.side, setting.side)), setting.backends) as oracle:
        for name in setting.strategies:
            kept: dict[str, Any] = {"name": name, "seed": 0, "output": output / setting.key / name}
            measured[name], _ = campaign.run(module, images, range(starts), oracle, budget=budget, **kept)
        return measured, oracle.info()


def median(values: Sequence[float], least: Sequence[float], most: Sequence[float]) -> Figure:
    """The median of ``values`` (N,), each of which truly lies between those of ``least`` and ``most``."""
    middle = float(np.median(values))
    down, up = float(np.median(least)) < middle, float(np.median(most)) > middle
    bound = {(False, False): "", (False, True): ">=", (True, False): "<=", (True, True): "~"}[down, up]
    return Figure(middle, len(values), stats.bootstrap(values), bound)


def cost(rows: Sequence[campaign.Row], quantity: str) -> Figure:
    """The median cost of a start."""
    spent = [float(getattr(row, quantity)) for row in rows]
    most = [value if row.found else np.inf for value, row in zip(spent, rows, strict=True)]
    return median(spent, spent, most)


def ratio(over: Sequence[campaign.Row], under: Sequence[campaign.Row], quantity: str) -> Figure:
    """The median, over the starts that both have, of one's cost over the other's."""
    pairs = list(zip(over, under, strict=False))  # the network for photographs has fewer
    values = [getattr(one, quantity) / max(getattr(other, quantity), 1e-4) for one, other in pairs]
    least = [value if other.found else 0.0 for value, (_, other) in zip(values, pairs, strict=True)]
    most = [value if one.found else np.inf for value, (one, _) in zip(values, pairs, strict=True)]
    return median(values, least, most)


def report(question: str, measured: Mapping[Setting, Rows]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The lines of a question's table of costs and of its ratios, and the same as metrics."""
    lines = [f"\nSearch cost against {QUESTIONS[question]}", "medians over the starts [95 % bootstrap interval]"]
    lines.append(
        f"{'setting':<41}{'strategy':<26}{'found':>6} " + "".join(f"{name:>23}" for name in QUANTITIES.values())
    )
    metrics: dict[str, dict[str, Any]] = {}

    def keep(name: str, figure: Figure) -> str:
        metrics[f"{question}_{name}"] = {"value": figure.value, "n": figure.n, "ci": figure.interval}
        if figure.bound:
            metrics[f"{question}_{name}_bound"] = {"value": figure.bound}
        return f"{figure!s:>23}"

    for setting, by_strategy in measured.items():
        for name, rows in by_strategy.items():
            label, found = f"{setting.key} {name}", sum(row.found for row in rows)
            figures = [keep(f"{label}_{quantity}", cost(rows, quantity)) for quantity in QUANTITIES]
            lines.append(f"{setting.key:<41}{name:<26}{found:>3}/{len(rows):<3}" + "".join(figures))
            rate, interval = found / len(rows), stats.exact(found, len(rows))
            metrics[f"{question}_{label}_rate"] = {"value": rate, "n": len(rows), "ci": interval}
    for title, pairs in {"growth": grown(measured), "peers": peers(measured)}.items():
        lines += [f"{title + ', paired by start':<118}{'evaluations':>23}{'CPU-seconds':>23}"] * bool(pairs)
        for (one, over), (other, under) in pairs:
            figures = [keep(f"{one}_over_{other}_{q}", ratio(over, under, q)) for q in ("evaluations", "cpu_seconds")]
            lines.append(f"  {f'{one} : {other}':<110}n={min(len(over), len(under)):<4}" + "".join(figures))
    return lines, {name.replace("-", "_").replace(" ", "_"): metric for name, metric in metrics.items()}


def grown(measured: Mapping[Setting, Rows]) -> list[Pair]:
    """Each strategy in each setting, against itself in the first setting of the group."""
    first: dict[str, Setting] = {}
    pairs: list[Pair] = []
    for setting, by_strategy in measured.items():
        base = first.setdefault(setting.group, setting)
        for name in by_strategy if setting is not base else ():
            if name in measured[base]:
                pairs.append(((f"{setting.key} {name}", by_strategy[name]), (base.key, measured[base][name])))
    return pairs


def peers(measured: Mapping[Setting, Rows]) -> list[Pair]:
    """Each other strategy against ``lattice`` in the same setting."""
    pairs: list[Pair] = []
    for setting, by_strategy in measured.items():
        others = {name: rows for name, rows in by_strategy.items() if name != OURS}
        pairs += [((f"{setting.key} {name}", rows), (OURS, by_strategy[OURS])) for name, rows in others.items()]
    return pairs


def present(networks: Sequence[str]) -> list[str]:
    """Those of ``networks`` that can be run here; prints what they are, and which are left out.

    Layers are those with weights on the longest path. Raises AssetMissing without CIFAR-10.
    """
    from torch import nn

    cifar10.load()
    kept = []
    for name in networks:
        try:
            module = models.load(name)
            if name == models.PHOTOGRAPHS:
                photos.total()
        except AssetMissing as error:
            print(f"{name} is left out: {error}")
            continue
        weighted = [key for key, one in module.named_modules() if isinstance(one, (nn.Conv2d, nn.Linear))]
        layers = sum("shortcut" not in key for key in weighted)
        print(f"{name}: {layers} weighted layers, {sum(p.numel() for p in module.parameters()):,} parameters")
        kept.append(name)
    if not kept:
        raise ChimeraError(f"--networks {' '.join(networks)}: none of them can be run here")
    return kept


def number(least: int, most: int) -> Callable[[str], int]:
    """A type for an option: a whole number between two others."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} to {most}")
        return int(text)

    return parse


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    add = parser.add_argument
    add("--starts", type=number(2, MOST), default=10, help="pictures to start from, 10 where not given")
    add("--evaluations", type=number(10, 10**6), default=1200, help="forward evaluations that a start may cost")
    add("--oracle-calls", type=number(1, 10**6), default=100, help="pictures that a start may show to the backends")
    add("--sides", nargs="+", type=number(32, 224), default=[32, 48, 64], help="of ResNet-20's pictures, in pixels")
    add("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="those to search")
    add("--questions", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS), help="those to answer")
    add("--output", type=Path, default=Path("out/benchmark"), help="folder of the searches; a second run goes on there")
    add("--record", type=Path, help="write the metrics to this JSON file too")
    return parser.parse_args(words)


def run(chosen: argparse.Namespace) -> None:
    """Measure, print and record what was asked for."""
    import torch

    torch.set_num_threads(1)  # the number of threads changes the last bits
    budget = Budget(evaluations=chosen.evaluations, oracle_calls=chosen.oracle_calls)
    networks = present(chosen.networks)
    print(f"budget of a start: {budget.evaluations} evaluations, {budget.oracle_calls} oracle calls; seed 0")
    print(">= at least, <= at most, ~ either: searches that found nothing could move the median that way")
    metrics: dict[str, Any] = {}
    facts: dict[str, dict[str, str]] = {}
    for question in chosen.questions:
        measured = {}
        for setting in settings(question, chosen.sides, networks):
            try:
                measured[setting], said = measure(setting, chosen.starts, budget, chosen.output)
                facts |= said
            except BackendUnavailable as error:
                print(f"{setting.key} is left out: {error}")
        lines, more = report(question, measured)
        print("\n".join(lines), flush=True)
        metrics |= more
    if chosen.record:
        recorded.write(chosen.record, shlex.join(["python", "benchmarks/images.py", *sys.argv[1:]]), metrics, facts)
        print(f"metrics in {chosen.record}")


if __name__ == "__main__":
    try:
        run(arguments(sys.argv[1:]))
    except (ChimeraError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
