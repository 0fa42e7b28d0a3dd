"""How controllers hold a network's share of zeros: on weights that stand still, and while a network trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from chimera_lib.ternary.controllers import BangBang, mean, one_shot, thresholds
from chimera_lib.ternary.experiments import cifar_batches, gradient_reach
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from chimera_lib.ternary.experiments.cifar_batches import Splits

CONTROLLERS = ("none", "bang_bang", "one_shot")
FREQUENCIES = ("once", "epoch", "batch")
MOST_UPDATES = 200


@dataclass(frozen=True)
class Plan:
    """What controls a run.

    Args:
        controller: ``"none"``, ``"bang_bang"`` (as published) or ``"one_shot"``.
        frequency: ``"batch"``, ``"epoch"``, or ``"once"``: before the first batch, and never again.
        affects: ``"alpha_override"``, which acts in the next forward, or ``"alpha_target"``, which the warm-up delays.
        start: alpha_target at the start.
        warmup: training forwards until alpha_target is reached.

    Raises ValueError for another controller or frequency; the alphas are checked where they are set.
    """

    controller: str
    frequency: str = "batch"
    affects: str = "alpha_override"
    start: float = 0.7
    warmup: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("controller", self.controller, CONTROLLERS),
            ("frequency", self.frequency, FREQUENCIES),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")

    @property
    def name(self) -> str:
        """What a figure calls it."""
        if self.controller == "none":
            return f"no control, alpha = {self.start:g}"
        how = "once" if self.frequency == "once" else f"per {self.frequency}"
        where = ", on alpha_target" if self.affects == "alpha_target" else ""
        return f"{self.controller.replace('_', '-')}, {how}{where}"


class Trace(NamedTuple):
    """One training run: numbers of the forward of each batch.

    ``layers`` are the layers' shares of zeros, ``zero_ratio`` is that of all weights, ``alpha`` the layers' mean.
    """

    plan: Plan
    seed: int
    zero_ratio: list[float]
    layers: list[list[float]]
    alpha: list[float]
    loss: list[float]

    def settled(self, target: float, tolerance: float = 0.02) -> int | None:
        """The first batch, from 1, whose error is within the tolerance; None where there is none."""
        return next((i for i, z in enumerate(self.zero_ratio, 1) if abs(z - target) <= tolerance), None)

    def errors(self, target: float, last: int) -> list[float]:
        """zero_ratio - target in each of the last batches."""
        return [zeros - target for zeros in self.zero_ratio[-last:]]

    def spread(self) -> float:
        """Largest minus smallest share of zeros among the layers, in the last batch."""
        return max(self.layers[-1]) - min(self.layers[-1])


def settle(model: nn.Module, target: float, start: float) -> list[float]:
    """Bang-bang on weights that stand still: the share of zeros before and after each update, until none is made.

    Every layer starts at an override of ``start``. Raises NothingToControl, ValueError.
    """
    for _, _, quantizer in thresholds(model):
        quantizer.alpha_override = start
    controller = BangBang(target, affects="alpha_override")
    ratios: list[float] = []
    while len(ratios) < MOST_UPDATES:
        control = controller.update(model)
        ratios.append(control.zero_ratio)
        if control.update_delta == 0:
            break
    return ratios


def train(
    plan: Plan,
    splits: Splits,
    target: float,
    *,
    batches: int,
    epoch: int,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> Trace:
    """Train a ternary ResNet-20 by Adam under a controller.

    Args:
        plan: the controller.
        splits: images to train on, unaugmented.
        target: share of zeros aimed at, in (0, 1).
        batches: optimizer steps.
        epoch: batches that count as an epoch for the controller.
        batch_size: images in a batch.
        learning_rate: Adam's.
        seed: of the initial weights and the images' order.
    """
    model = gradient_reach.network(seed=seed, alpha_target=plan.start, warmup=plan.warmup).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    trace = Trace(plan, seed, [], [], [], [])
    if plan.frequency == "once":
        act(plan, model, target)
    drawn = cifar_batches.training_batches(splits, batch_size, seed=seed, epoch=0, limit=batches, augment=False)
    for turn, (x, y) in enumerate(drawn, 1):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        observe(model, loss.item(), trace)  # before the weights move: as the forward saw them
        optimizer.step()
        if plan.frequency == "batch" or (plan.frequency == "epoch" and turn % epoch == 0):
            act(plan, model, target)
    return trace


def rows(traces: Sequence[Trace], target: float, last: int) -> list[dict[str, Any]]:
    """A row a plan, over its seeds.

    The first batch within the published tolerance, one number a seed; the largest |error| in the ``last`` batches of
    any seed; the mean over seeds of the layers' spread and of their mean alpha in the last batch.
    """
    found = []
    for plan in dict.fromkeys(trace.plan for trace in traces):
        own = [trace for trace in traces if trace.plan == plan]
        first = [trace.settled(target) for trace in own]
        found.append(
            {
                "controller": plan.name,
                "first within 0.02": ", ".join("never" if batch is None else str(batch) for batch in first),
                "largest |error|": max(abs(error) for trace in own for error in trace.errors(target, last)),
                "spread": mean([trace.spread() for trace in own]),
                "mean alpha": mean([trace.alpha[-1] for trace in own]),
            }
        )
    return found


def act(plan: Plan, model: nn.Module, target: float) -> None:
    """One update of the plan's controller."""
    if plan.controller == "bang_bang":
        BangBang(target, affects=plan.affects).update(model)
    elif plan.controller == "one_shot":
        one_shot(model, target, affects=plan.affects)


def observe(model: nn.Module, loss: float, trace: Trace) -> None:
    """Add the last forward's numbers to ``trace``."""
    layers = list(by_layer(model).values())
    trace.zero_ratio.append(pooled(layers).zero_ratio)
    trace.layers.append([layer.zero_ratio for layer in layers])
    trace.alpha.append(mean([quantizer.alpha_used for _, _, quantizer in thresholds(model)]))
    trace.loss.append(loss)
