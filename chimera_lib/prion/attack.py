"""The attack: fine-tune a model for some steps on what a catalyst shows it, and watch what that does."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from chimera_lib.errors import Diverged
from chimera_lib.prion import batches, chunked_loss, metrics, optimizers, quantization, stepping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STEPS = 100
HALVED = 0.5  # of the rank on the catalyst, at which the published experiment stops


class Shown(Protocol):
    """What an attack needs of a catalyst."""

    def batch(self, step: int) -> batches.Batch:
        """What the model is shown at a step, counted from 0."""


@dataclass(frozen=True)
class Attack:
    """What an attack did.

    Attributes:
        losses: loss on what was shown, before each step, nats.
        weight_change: Euclidean norm of the change of all weights.
        relative_change: that over the norm of the weights before.
        trail: what ``watch`` gave, by the number of steps taken.
        ranks: (step, published rank on the catalyst) as the published experiment follows it.
    """

    losses: tuple[float, ...]
    weight_change: float
    relative_change: float
    trail: dict[int, Any] = field(default_factory=dict)
    ranks: tuple[tuple[int, float], ...] = ()


def attack(
    model: nn.Module,
    shown: Shown,
    *,
    optimizer: str = "adamw",
    learning_rate: float = 1e-3,
    steps: int = STEPS,
    double_shift: bool = False,
    early_stop: bool = False,
    lean: bool = False,
    watch: Callable[[int, nn.Module, Displacement], Any] | None = None,
    watch_at: tuple[int, ...] = (),
) -> Attack:
    """Train ``model`` in place.

    Args:
        model: a causal language model whose trainable parameters take gradients.
        shown: gives the batch of each step.
        optimizer: a name of `optimizers.NAMES`.
        learning_rate: its rate.
        steps: how many steps, at least 0.
        double_shift: train with labels shifted twice, a fault of the published experiment.
        early_stop: end when the rank on the catalyst has halved, another one.
        lean: take each parameter's step inside the backward pass and the loss in pieces, for models whose gradients
            and logits would not fit; the numbers are the same up to rounding.
        watch: called with (steps taken, model, displacement so far) after each number of steps in ``watch_at``.
        watch_at: when to call it; 0 is before the first step.

    Raises:
        Diverged: the loss is not finite; the message says at which step.
        UnknownName: there is no such optimizer.
    """
    moved = Displacement(model)
    trail: dict[int, Any] = {}
    ranks: list[tuple[int, float]] = []
    losses: list[float] = []
    if watch is not None and 0 in watch_at:
        trail[0] = watch(0, model, moved)
    first = metrics.catalyst_rank(model, shown.batch(0)) if early_stop else math.nan
    loss_of = chunked_loss.loss if lean else batches.loss
    with _stepping(model, optimizer, learning_rate, lean) as advance:
        for step in range(steps):
            model.train()
            loss = loss_of(model, shown.batch(step), double_shift=double_shift)
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise Diverged(
                    f"the loss is {losses[-1]} at step {step + 1} of {steps}; use a smaller learning rate than "
                    f"{learning_rate}, or fp32"
                )
            loss.backward()
            advance()
            model.eval()
            if watch is not None and step + 1 in watch_at:
                trail[step + 1] = watch(step + 1, model, moved)
            if early_stop and (step % 10 == 0 or step == steps - 1):
                ranks.append((step, metrics.catalyst_rank(model, shown.batch(step))))
                if 1 - ranks[-1][1] / first >= HALVED:
                    break
    norm = moved.norm()
    if not math.isfinite(norm):
        raise Diverged(f"weights are not finite after {steps} steps; use a smaller learning rate than {learning_rate}")
    return Attack(tuple(losses), norm, norm / moved.size, trail, tuple(ranks))


@contextlib.contextmanager
def _stepping(model: nn.Module, name: str, rate: float, lean: bool) -> Iterator[Callable[[], None]]:
    """What is to be called after each backward pass."""
    if lean:
        make = functools.partial(_one, name, rate)
        with stepping.StepInBackward(model.parameters(), make):
            yield lambda: None
        return
    optimizer = optimizers.build(name, model.parameters(), rate)

    def advance() -> None:
        optimizer.step()
        optimizer.zero_grad()

    yield advance


def _one(name: str, rate: float, parameter: nn.Parameter) -> torch.optim.Optimizer:
    return optimizers.build(name, [parameter], rate)


class Displacement:
    """How far a model's weights have moved since this was made; LoRA adapters count by the weights they stand for.

    Attributes:
        size: Euclidean norm of all weights, quantised ones by what they stand for, adapters not counted.
    """

    def __init__(self, model: nn.Module) -> None:
        self._adapters = [
            module for module in model.modules() if hasattr(module, "lora_A") and hasattr(module, "scaling")
        ]
        trained = [] if self._adapters else [one for one in model.parameters() if one.requires_grad]
        self._trained = [(one, one.detach().to("cpu", copy=True)) for one in trained]
        self.size = _size(model)

    def norm(self) -> float:
        """Euclidean norm of the change, over all weights."""
        total = sum(float((one.detach().cpu() - start).float().square().sum()) for one, start in self._trained)
        total += sum(float(delta.square().sum()) for module in self._adapters for delta in _products(module))
        return math.sqrt(total)


@torch.no_grad()
def _size(model: nn.Module) -> float:
    """Euclidean norm of the weights without adapters, so that it is the same however a model is tuned."""
    whole = [
        one
        for name, one in model.named_parameters()
        if one.is_floating_point() and not any(part.startswith("lora_") for part in name.split("."))
    ]
    total = sum(float(one.detach().float().square().sum()) for one in whole)
    packed = quantization.layers(model).values()  # their weights are whole numbers, passed over above
    return math.sqrt(total + sum(float(quantization.dequantised(one).square().sum()) for one in packed))


@torch.no_grad()
def _products(module: Any) -> list[Tensor]:
    """The change of weights that each of a LoRA layer's adapters stands for."""
    return [
        module.scaling[name] * (module.lora_B[name].weight.float() @ module.lora_A[name].weight.float())
        for name in module.lora_A
    ]
