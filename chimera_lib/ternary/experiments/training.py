"""Train the ResNet-20 of a recipe: batches, controller, evaluation, log and checkpoints."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from chimera_lib.devices import check_device
from chimera_lib.errors import BadGradient, ChimeraError, Diverged
from chimera_lib.ternary.experiments import checkpoint as checkpoints
from chimera_lib.ternary.experiments import cifar_batches, log, recipe
from chimera_lib.ternary.experiments.evaluation import Score, evaluate
from chimera_lib.ternary.quantizers.gamma import GammaQuantizer
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled, quantized, unweighted
from chimera_lib.ternary.quantizers.threshold import ThresholdQuantizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from chimera_lib.ternary.controllers import Control
    from chimera_lib.ternary.experiments.cifar_batches import Splits
    from chimera_lib.ternary.experiments.recipe import Recipe

CONTROL = ("controller_error", "controller_update_delta", "alpha_control_mean", "alpha_next_mean")
WARMUP_STEPS = 3  # steps left out of a timing summary: the first ones allocate


@dataclass(frozen=True)
class Outcome:
    """A trained network, its last evaluation, and its training loss and accuracy by epoch."""

    model: nn.Module
    test: Score
    train: list[Score]
    step_ms: list[float] = field(repr=False)

    @property
    def median_step_ms(self) -> float:
        """Median milliseconds of a step, without the first few; NaN where there are no others."""
        after = self.step_ms[WARMUP_STEPS:]
        return statistics.median(after) if after else math.nan


def train(
    chosen: Recipe,
    splits: Splits,
    lines: log.Log,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    report: Callable[[str], object] | None = None,
) -> Outcome:
    """Train and evaluate once an epoch.

    Args:
        chosen: the recipe.
        splits: what is trained on and tested on.
        lines: a log of the ``"resnet"`` schema.
        device: ``"cpu"`` or ``"cuda"``.
        checkpoint: written after every epoch; where it exists already, the run goes on from it, and ends as it would
            have without the interruption.
        report: is told a line an epoch.

    Raises:
        Diverged: the loss is no longer finite.
        ChimeraError: the device is not here, or the checkpoint is of another run.
    """
    check_device(device)
    run = Run(chosen, splits, lines, device)
    done = run.resume(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    if done and report:
        report(f"{checkpoint} holds {done} of {chosen.epochs} epochs: going on from there")
    test = run.test(done - 1, quiet=True) if done == chosen.epochs else None
    for epoch in range(done, chosen.epochs):
        scored = run.epoch(epoch)
        test = run.test(epoch)
        if checkpoint is not None:
            run.save(checkpoint, epoch + 1)
        if report:
            low, high = test.ci
            report(
                f"epoch {epoch + 1}/{chosen.epochs}: train loss {scored.loss:.4f}, accuracy {scored.accuracy:.1%}; "
                f"{splits.name} test accuracy {test.accuracy:.1%} ({low:.1%} to {high:.1%}, n = {test.n})"
            )
    assert test is not None
    outcome = Outcome(run.model, test, run.scores, run.step_ms)
    run.finish(outcome)
    return outcome


class Run:
    """One training run on its way."""

    def __init__(self, chosen: Recipe, splits: Splits, lines: log.Log, device: str) -> None:
        self.recipe, self.splits, self.lines, self.device = chosen, splits, lines, device
        self.model = recipe.network(chosen).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, on a CPU as well
        self.optimizer = recipe.optimizer_of(chosen, self.model)
        self.control = recipe.controller_of(chosen)
        self.batches = cifar_batches.number_of_batches(splits, chosen.batch_size, chosen.max_batches)
        self.scores: list[Score] = []
        self.step_ms: list[float] = []
        self.seen: dict[str, Any] = {}  # the network's fields as of the last training forward

    def epoch(self, epoch: int) -> Score:
        """Train one epoch; its loss and accuracy are those of the training forwards.

        The controller acts before an epoch, or a batch, on what the forwards before it saw, so that the evaluation
        after an epoch has the thresholds that the network was trained with.
        """
        c = self.recipe
        self.model.train()
        loss_sum, correct, n = 0.0, 0, 0
        begun = self.control("epoch", self.model) if epoch else None
        given = cifar_batches.training_batches(
            self.splits, c.batch_size, seed=c.seed, epoch=epoch, limit=c.max_batches, augment=c.augment
        )
        for number, (x, labels) in enumerate(given):
            moved = self.control("batch", self.model) if epoch or number else None
            loss, hits = self.step(epoch * self.batches + number, x, labels)
            loss_sum, correct, n = loss_sum + loss * len(labels), correct + hits, n + len(labels)
            if self.lines.open:
                own = {"batch_idx": number, "split": "train", "loss": loss, "train_loss": loss}
                self.write("batch", epoch, moved, self.seen, **own, train_accuracy=hits / len(labels))
        self.scores.append(Score(loss_sum / n, correct, n))
        now = self.scores[-1]
        means = {"loss": now.loss, "train_loss": now.loss, "train_accuracy": now.accuracy}
        self.write("epoch", epoch, begun, self.seen, split="train", **means)
        return now

    def step(self, number: int, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, int]:
        """One optimizer step; returns the loss and how many labels were hit."""
        began = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(number, self.batches * self.recipe.epochs)
        logits = self.model(x.to(self.device, memory_format=torch.channels_last))
        there = labels.to(self.device)
        loss = F.cross_entropy(logits, there)
        value = float(loss.detach())
        c = self.recipe
        if not math.isfinite(value):
            raise Diverged(f"{c.optimizer}, {c.mode}: the loss is {value} at step {number}; lower --learning-rate")
        self.optimizer.zero_grad()
        loss.backward()
        forward = time.perf_counter()
        if self.lines.open:
            self.seen = network_fields(self.model)  # before the weights move on
        paused = time.perf_counter() - forward
        try:
            self.optimizer.step()
        except BadGradient as error:
            raise Diverged(f"{c.optimizer}, {c.mode}, step {number}: {error}; lower --learning-rate") from error
        hits = int((logits.detach().argmax(1) == there).sum())
        self.step_ms.append((time.perf_counter() - began - paused) * 1e3)
        return value, hits

    def test(self, epoch: int, *, quiet: bool = False) -> Score:
        """Evaluate; the record's statistics are those of this pass."""
        c = self.recipe
        score = evaluate(self.model, self.splits, c.eval_batch_size, c.eval_max_batches, self.device)
        if not math.isfinite(score.loss):
            raise Diverged(f"{c.optimizer}, {c.mode}: the test loss is {score.loss}; lower --learning-rate")
        if not quiet and self.lines.open:
            own = {"loss": score.loss, "test_loss": score.loss, "test_accuracy": score.accuracy}
            self.write("eval", epoch, None, network_fields(self.model), split="test", **own)
        return score

    def finish(self, outcome: Outcome) -> None:
        """Write the final record and the summary of timings."""
        last = self.recipe.epochs - 1
        fields = network_fields(self.model) if self.lines.open else {}
        scores = {"test_loss": outcome.test.loss, "test_accuracy": outcome.test.accuracy}
        self.write("final", last, None, fields, split="test", loss=outcome.test.loss, **scores)
        mean = statistics.mean(self.step_ms) if self.step_ms else None
        times = {"step_time_ms": mean, "step_time_ms_after_warmup": outcome.median_step_ms}
        self.write("summary", last, None, fields, **times, **scores)

    def write(self, kind: str, epoch: int, moved: Control | None, fields: dict[str, Any], **values: Any) -> None:
        """Write a record: the recipe's fields, the network's ``fields``, and what the controller did before it."""
        if not self.lines.open:
            return
        batch = values.get("batch_idx")
        shared = {
            "mode": self.recipe.mode,
            "activation": self.recipe.activation,
            "seed": self.recipe.seed,
            "init_seed": self.recipe.seed if self.recipe.init_seed is None else self.recipe.init_seed,
            "optimizer_name": self.recipe.optimizer,
            "epoch": epoch,
            "step": (epoch + 1) * self.batches if batch is None else epoch * self.batches + batch + 1,
            **log.optimizer_fields(self.optimizer.param_groups[0]),
        }
        control = {} if moved is None else {name: value for name, value in moved.record().items() if name in CONTROL}
        self.lines.write(kind, **{**shared, **fields, **self.aims(), **control, **values})

    def aims(self) -> dict[str, Any]:
        """The log fields of the controller's aims; none where nothing is controlled."""
        c = self.recipe
        if not c.controlled:
            return {}
        named = {"controller_frequency": c.controller_frequency, "controller_affects": c.controller_affects}
        bits = {"target_bits": c.target_bits, "target_branch": c.target_branch}
        return {**named, **bits, "target_zero_ratio": c.target_zero_ratio}

    def save(self, path: Path, epochs: int) -> None:
        """Write a checkpoint: besides the tensors, the recipe, the data's name, epochs done and their scores."""
        facts = {
            "epochs": epochs,
            "data": self.splits.name,
            "train": [[s.loss, s.correct, s.n] for s in self.scores],
            "step_ms": self.step_ms,
        }
        checkpoints.save(path, self.model, self.optimizer, self.recipe, facts)

    def resume(self, path: Path) -> int:
        """Take up a checkpoint; returns how many epochs it holds."""
        facts = checkpoints.load(path, self.model, self.optimizer, self.recipe)
        if facts["data"] != self.splits.name:
            raise ChimeraError(f"{path} was trained on {facts['data']}, now {self.splits.name}: name another file")
        self.scores = [Score(*row) for row in facts["train"]]
        self.step_ms = list(facts["step_ms"])
        return int(facts["epochs"])


def network_fields(model: nn.Module) -> dict[str, Any]:
    """The log fields of a network's ternary layers as they are: of the last forward, if no weight has moved since.

    Empty where the network has no ternary layer.
    """
    layers = by_layer(model)
    if not layers:
        return {}
    whole = pooled(layers.values()).record()
    each = unweighted(layers.values())
    fields: dict[str, Any] = {**whole, "stat_mode": "global"}
    fields |= {f"global_{name}": value for name, value in whole.items()}
    fields |= {f"unweighted_mean_{name}": value for name, value in each.items()}
    found = list(quantized(model))
    gammas = [(float(q.gamma(w).mean()), q.rho_s) for _, w, q in found if isinstance(q, GammaQuantizer)]
    if gammas:
        fields |= {"gamma": statistics.fmean(value for value, _ in gammas), "rho_s": gammas[0][1]}
    thresholds = [q for _, _, q in found if isinstance(q, ThresholdQuantizer)]
    if thresholds:
        used = statistics.fmean(q.alpha_used for q in thresholds)
        target = statistics.fmean(q.alpha_target for q in thresholds)
        fields |= {"alpha": target, "alpha_used": used, "alpha_used_mean": used, "alpha_target_mean": target}
    return fields
