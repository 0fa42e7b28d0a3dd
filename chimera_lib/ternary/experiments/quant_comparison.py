"""Ternary quantizers side by side: one seed, shape, data, target and optimizer for all, only the quantizer differs.

The task is real (`digits`), the network two BitLinear layers with a ReLU between. Every cell of the comparison starts
from the same weights and meets the same batches at one seed, so that cells are compared seed by seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.controllers import mean, one_shot, zero_ratio_for
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.experiments.digits import CLASSES, PIXELS, Part
from chimera_lib.ternary.quantizers.activations import ACTIVATIONS
from chimera_lib.ternary.quantizers.gamma import SCALES, GammaQuantizer
from chimera_lib.ternary.quantizers.protocol import exact
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled, quantized
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer
from chimera_lib.ternary.resnet import BASELINE, MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chimera_lib.ternary.experiments.log import Log

WITH_SCALE = ("strict_bitnet", "chimera")  # quantizers whose codes may stand for gamma or for the optimal scale
TUNING_SEEDS = (1000, 1001, 1002)  # never among those that are reported


@dataclass(frozen=True)
class Cell:
    """One column of the comparison: a mode and what it is combined with (None where the mode has no such choice)."""

    mode: str
    scale: str | None = None
    activation: str | None = None

    @property
    def name(self) -> str:
        """The mode, followed by what differs from the default scale gamma and activation int8."""
        parts = [self.mode, self.scale if self.scale != "gamma" else None]
        parts.append({"as_published": "as_published", "none": "fp32_activation"}.get(self.activation or ""))
        return "_".join(part for part in parts if part)


def cells(modes: Iterable[str], scales: Sequence[str] = SCALES, activations: Sequence[str] = ("int8",)) -> list[Cell]:
    """Every combination that has a meaning: the baseline has neither scale nor activation, TTQ and LSQ learn theirs.

    Raises UnknownName for a mode, scale or activation that does not exist.
    """
    modes = list(modes)
    choices = (("mode", modes, MODES), ("scale", scales, SCALES), ("activation", activations, ACTIVATIONS))
    for kind, given, known in choices:
        for name in given:
            if name not in known:
                raise UnknownName(kind, name, known)
    found: list[Cell] = []
    for mode in modes:
        if mode == BASELINE:
            found.append(Cell(mode))
            continue
        own = scales if mode in WITH_SCALE else (None,)
        found += [Cell(mode, scale, activation) for activation in activations for scale in own]
    return found


@dataclass(frozen=True)
class Setting:
    """What all cells have in common.

    Args:
        steps: optimizer steps of a run, >= 1.
        learning_rates: of Adam. Where there are several, each cell takes the one of least validation loss, averaged
            over ``TUNING_SEEDS``; the test pictures and the reported seeds have no part in the choice.
        alpha_target: threshold of ``chimera`` after its warm-up.
        target_bits: where given, ``chimera`` is aimed at this entropy instead, by `controllers.one_shot` after every
            step.
        warmup: training forwards until alpha_target is reached.
        rho_s: rate of gamma's EMA.
        batch: pictures to a step, drawn without replacement from the training part.
        hidden: units between the two layers.
    """

    steps: int = 300
    learning_rates: tuple[float, ...] = (1e-3,)
    alpha_target: float = 0.7
    target_bits: float | None = None
    warmup: int = 100
    rho_s: float = 0.95
    batch: int = 64
    hidden: int = 64


class Run(NamedTuple):
    """One cell at one seed: accuracy and loss on the test part, and `weight_statistics` after training.

    ``learning`` counts the parameters, of ``parameters``, whose gradient was not zero in the first step.
    """

    cell: Cell
    seed: int
    learning_rate: float
    accuracy: float
    loss: float
    train_loss: float
    learning: int
    parameters: int
    statistics: dict[str, float | None]


def network(cell: Cell, setting: Setting, seed: int) -> nn.Module:
    """Two linear layers, 64 - hidden - 10; at one seed all cells start from the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = nn.Sequential(nn.Linear(PIXELS, setting.hidden), nn.ReLU(), nn.Linear(setting.hidden, CLASSES))
    if cell.mode == BASELINE:
        return plain
    options: dict[str, Any] = {"scale": cell.scale, "rho_s": setting.rho_s} if cell.mode in WITH_SCALE else {}
    if cell.mode == "chimera":
        options |= {"alpha_target": setting.alpha_target, "warmup": setting.warmup}
    return convert(plain, mode=cell.mode, activation=cell.activation, **options)


def weight_statistics(model: nn.Module) -> dict[str, float | None]:
    """Shares of the codes over all ternary weights, their entropy in bits, and the layers' mean gamma and alphas.

    Everything is None for a network without ternary layers, gamma and the alphas for a quantizer that has none.
    """
    found = list(quantized(model))
    fields: dict[str, float | None] = dict.fromkeys(("zero_ratio", "plus_ratio", "minus_ratio", "effective_bits"))
    fields |= dict.fromkeys(("gamma", "alpha", "alpha_used"))
    if found:
        fields |= pooled(by_layer(model).values()).record()
    gammas = [float(q.gamma(exact(w)).mean()) for _, w, q in found if isinstance(q, GammaQuantizer)]
    layers = [q for _, _, q in found if isinstance(q, ThresholdQuantizer)]
    if gammas:
        fields["gamma"] = mean(gammas)
    if layers:
        fields["alpha"] = mean([q.alpha_target for q in layers])
        fields["alpha_used"] = mean([q.alpha_used for q in layers])
    return fields


def train(
    cell: Cell, seed: int, setting: Setting, rate: float, data: Mapping[str, Part], log: Log | None = None
) -> tuple[nn.Module, float, int]:
    """Train a cell; returns the network, the last batch's loss, and how many parameters learnt in the first step."""
    model = network(cell, setting, seed).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    part, learning = data["train"], 0
    aim = None if setting.target_bits is None or cell.mode != "chimera" else zero_ratio_for(setting.target_bits)
    order: list[torch.Tensor] = []
    for step in range(1, setting.steps + 1):
        if not order:
            order = list(torch.randperm(len(part.y), generator=generator).split(setting.batch))
        chosen = order.pop()
        if aim is not None:
            one_shot(model, aim)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(part.x[chosen]), part.y[chosen])
        loss.backward()
        if step == 1:
            learning = sum(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
        if log is not None:  # before the weights move
            fields = {**described(cell, seed, setting, rate), **weight_statistics(model)}
            log.write("step", step=step, loss=loss.item(), **fields)
        optimizer.step()
    return model.eval(), loss.item(), learning


@torch.no_grad()
def judge(model: nn.Module, part: Part) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a part."""
    logits = model(part.x)
    return float(F.cross_entropy(logits, part.y)), float((logits.argmax(1) == part.y).float().mean())


def described(cell: Cell, seed: int, setting: Setting, rate: float) -> dict[str, Any]:
    """The fields of a log line that say what was run. ``stat_mode`` is what a code of 1 stands for."""
    chimera = cell.mode == "chimera"
    return {
        "mode": cell.name,
        "seed": seed,
        "init_seed": seed,
        "lr": rate,
        "optimizer_name": "adam",
        "target_bits": setting.target_bits if chimera else None,
        "stat_mode": cell.scale,
        "rho_s": setting.rho_s if cell.mode in WITH_SCALE else None,
    }


def chosen_rate(cell: Cell, setting: Setting, data: Mapping[str, Part]) -> float:
    """The learning rate of least mean validation loss over the tuning seeds; the only one where there is one."""
    if len(setting.learning_rates) == 1:
        return setting.learning_rates[0]

    def validation_loss(rate: float) -> float:
        runs = (train(cell, seed, setting, rate, data)[0] for seed in TUNING_SEEDS)
        loss = mean([judge(model, data["validation"])[0] for model in runs])
        return loss if math.isfinite(loss) else math.inf  # a rate at which training diverged is never the least

    return min(setting.learning_rates, key=validation_loss)


def compare(
    chosen: Sequence[Cell],
    seeds: Iterable[int],
    setting: Setting,
    data: Mapping[str, Part],
    *,
    log: Log | None = None,
    report: Callable[[str], object] = lambda _: None,
) -> list[Run]:
    """Run every cell at every seed, and return a Run for each.

    ``log`` gets a record of each step, one of type eval (the test part's loss) and one of type final (the last
    batch's). The statistics in a step's record are those of the forward that gave its loss.
    """
    runs, seeds = [], list(seeds)
    for cell in chosen:
        rate = chosen_rate(cell, setting, data)
        for seed in seeds:
            model, train_loss, learning = train(cell, seed, setting, rate, data, log)
            loss, accuracy = judge(model, data["test"])
            numbers = weight_statistics(model)
            if log is not None:
                fields = {"step": setting.steps, **described(cell, seed, setting, rate), **numbers}
                log.write("eval", loss=loss, **fields)
                log.write("final", loss=train_loss, **fields)
            count = len(list(model.parameters()))
            runs.append(Run(cell, seed, rate, accuracy, loss, train_loss, learning, count, numbers))
        report(f"{cell.name}: {len(seeds)} seeds, learning rate {rate:g}")
    return runs
