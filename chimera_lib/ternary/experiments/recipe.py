"""Everything that decides a training run of the ResNet-20, and what is built from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.ternary import optimizers
from chimera_lib.ternary.controllers import AFFECTS, FREQUENCIES, BangBang, one_shot, zero_ratio_for
from chimera_lib.ternary.quantizers.activations import ACTIVATIONS, activation
from chimera_lib.ternary.quantizers.gamma import SCALES
from chimera_lib.ternary.quantizers.threshold import checked
from chimera_lib.ternary.resnet import BASELINE, MODES, ChimeraResNet20

if TYPE_CHECKING:
    from collections.abc import Callable

    from chimera_lib.ternary.controllers import Control

SCHEDULES = ("onecycle", "constant")
CONTROLLERS = ("none", "bang-bang", "one-shot")
RISE = 0.25  # share of the steps in which a one-cycle learning rate rises
ENDS = ("conv", "fc")  # stay in full precision


@dataclass(frozen=True)
class Recipe:
    """A training run of ChimeraResNet20; the same recipe and data give the same network, bit for bit on one machine.

    ``learning_rate`` is the peak of ``schedule``: ``"onecycle"`` rises to it linearly over the first quarter of all
    steps and falls linearly to zero; ``"constant"`` stays there, as published. ``activation`` quantizes what enters the
    18 inner convolutions, with ``mode="fp32_baseline"`` too. ``controller`` acts where ``mode`` is ``"chimera"``, after
    every batch or epoch. ``seed`` decides order and crops, ``init_seed`` (None: the same) the initial weights.

    Raises UnknownName and ChimeraError at construction for a name or a number that makes no sense.
    """

    mode: str = "chimera"
    optimizer: str = "chimera21"
    learning_rate: float = 3e-3
    weight_decay: float = 0.0
    activation: str = "int8"
    epochs: int = 1
    batch_size: int = 64
    eval_batch_size: int = 500
    max_batches: int | None = None
    eval_max_batches: int | None = None
    schedule: str = "onecycle"
    augment: bool = True
    alpha_target: float = 0.7
    warmup: int = 100
    scale: str = "gamma"
    controller: str = "none"
    target_bits: float = 1.32
    target_branch: str = "sparse"
    controller_frequency: str = "epoch"
    controller_affects: str = "alpha_target"
    seed: int = 0
    init_seed: int | None = None

    def __post_init__(self) -> None:
        known: dict[str, tuple[str, Any]] = {
            "mode": (self.mode, MODES),
            "optimizer": (self.optimizer, optimizers.OPTIMIZERS),
            "activation quantizer": (self.activation, ACTIVATIONS),
            "schedule": (self.schedule, SCHEDULES),
            "controller": (self.controller, CONTROLLERS),
            "controller frequency": (self.controller_frequency, FREQUENCIES),
            "controlled value": (self.controller_affects, AFFECTS),
            "scale": (self.scale, SCALES),
        }
        for kind, (name, names) in known.items():
            if name not in names:
                raise UnknownName(kind, name, names)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ChimeraError(f"learning rate {self.learning_rate}: expected a positive number")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ChimeraError(f"weight decay {self.weight_decay}: expected 0 or more")
        try:
            checked("alpha_target", self.alpha_target)
        except ValueError as error:
            raise ChimeraError(str(error)) from error
        for name in ("epochs", "batch_size", "eval_batch_size", "max_batches", "eval_max_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ChimeraError(f"{name.replace('_', ' ')} {value}: expected at least 1")
        try:
            zero_ratio_for(self.target_bits, branch=self.target_branch)
        except ValueError as error:
            raise ChimeraError(str(error)) from error

    @property
    def target_zero_ratio(self) -> float:
        """The share of zero weights whose entropy is ``target_bits``."""
        return zero_ratio_for(self.target_bits, branch=self.target_branch)

    @property
    def controlled(self) -> bool:
        """Whether a controller moves the thresholds."""
        return self.mode == "chimera" and self.controller != "none"

    def rate(self, step: int, total: int) -> float:
        """Learning rate of step 0 ... ``total`` - 1."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = max(1, round(RISE * total))
        return self.learning_rate * min((step + 1) / rise, (total - step) / max(1, total - rise + 1))


def network(recipe: Recipe) -> ChimeraResNet20:
    """The network of a recipe: at one ``init_seed``, the same initial weights in every mode."""
    torch.manual_seed(recipe.seed if recipe.init_seed is None else recipe.init_seed)
    options: dict[str, Any] = {}
    if recipe.mode == "chimera":
        options = {"alpha_target": recipe.alpha_target, "warmup": recipe.warmup, "scale": recipe.scale}
    elif recipe.mode == "strict_bitnet":
        options = {"scale": recipe.scale}
    model = ChimeraResNet20(recipe.mode, activation=recipe.activation, **options)
    if recipe.mode == BASELINE and recipe.activation != "none":
        quantize_inputs(model, recipe.activation)
    return model


def quantize_inputs(model: nn.Module, name: str) -> None:
    """Quantize what enters every convolution but the first, whose weights stay in full precision."""
    for layer_name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer_name not in ENDS:
            quantizer = activation(name)
            assert quantizer is not None
            layer.register_forward_pre_hook(lambda _, inputs, q=quantizer: (q(inputs[0]), *inputs[1:]))


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over all parameters of ``model``."""
    options = {"weight_decay": recipe.weight_decay} if recipe.weight_decay else {}
    return optimizers.build(recipe.optimizer, model.parameters(), recipe.learning_rate, **options)


def controller_of(recipe: Recipe) -> Callable[[str, nn.Module], Control | None]:
    """What to call after each ``"batch"`` and ``"epoch"``: it moves the thresholds where the recipe says so."""
    if not recipe.controlled:
        return lambda event, model: None  # noqa: ARG005
    target, affects, frequency = recipe.target_zero_ratio, recipe.controller_affects, recipe.controller_frequency
    if recipe.controller == "bang-bang":
        return BangBang(target, affects=affects, frequency=frequency).after
    return lambda event, model: one_shot(model, target, affects=affects) if event == frequency else None
