"""The CIFAR-10 ablation: optimizer x quantizer x activation quantization, every cell with the same seeds.

Published, mode, seed and optimizer change together from run to run, so that no difference has one cause. Here they are
crossed. Learning rates are chosen beforehand, for each optimizer and quantizer, from one grid by one rule, on training
images held out and with a seed that is not reported.
"""

from __future__ import annotations

import itertools
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib import devices
from chimera_lib.errors import ChimeraError, Diverged
from chimera_lib.ternary.allocator import keep_memory
from chimera_lib.ternary.experiments import training
from chimera_lib.ternary.experiments.log import Log
from chimera_lib.ternary.experiments.rows import Rows
from chimera_lib.ternary.optimizers import LEARNING_RATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from chimera_lib.ternary.experiments.cifar_batches import Splits
    from chimera_lib.ternary.experiments.recipe import Recipe

OPTIMIZERS = ("adamw", "cautious_adamw", "grams", "lion", "sgd_momentum", "chimera21", "chimera21_neutral")
MODES = ("fp32_baseline", "strict_bitnet", "chimera")
ACTIVATIONS = ("none", "int8")
TUNING_SEED = 1000  # reported seeds are 0, 1, ...
VALIDATION = 5000  # training images held out to choose learning rates
CELL = ("optimizer", "mode", "activation", "seed")

Row = dict[str, Any]


@dataclass(frozen=True)
class Design:
    """What is crossed, and what all cells have in common.

    ``base`` gives everything but the crossed factors and the learning rate. ``tuning_batches`` is the length of the
    runs that choose a learning rate, at activation ``int8``; where ``rates`` gives one for each optimizer and mode,
    nothing is tuned.
    """

    base: Recipe
    optimizers: tuple[str, ...] = OPTIMIZERS
    modes: tuple[str, ...] = MODES
    activations: tuple[str, ...] = ACTIVATIONS
    seeds: tuple[int, ...] = (0, 1, 2)
    tuning_batches: int = 100
    rates: Mapping[tuple[str, str], float] | None = None
    device: str = "cpu"

    def cells(self) -> Iterator[Recipe]:
        """A recipe for each cell, seed by seed, so that an unfinished ablation is balanced but for its last seed.

        Where no rates are given, that of the base still stands in the place of the tuned one.
        """
        rates = self.rates or {}
        crossed = itertools.product(self.seeds, self.modes, self.activations, self.optimizers)
        for seed, mode, activation, optimizer in crossed:
            one = replace(self.base, mode=mode, optimizer=optimizer, activation=activation, seed=seed)
            yield replace(one, learning_rate=rates.get((optimizer, mode), one.learning_rate))


def tune(design: Design, splits: Splits, optimizer: str, mode: str) -> list[Row]:
    """Try learning rates of the grid from its middle, always on to the better neighbour, until none is better.

    Judged by the loss on held-out training images; a run that diverges is worse than any. One row a rate tried.
    """
    held_out = splits.held_out(min(VALIDATION, len(splits.train_images) // 5))
    recipe = replace(
        design.base,
        optimizer=optimizer,
        mode=mode,
        activation="int8",
        seed=TUNING_SEED,
        epochs=1,
        max_batches=design.tuning_batches,
    )
    tried: dict[int, Row] = {}

    def loss(place: int) -> float:
        if not 0 <= place < len(LEARNING_RATES):
            return float("inf")
        if place not in tried:
            tried[place] = measure(replace(recipe, learning_rate=LEARNING_RATES[place]), held_out, design.device)
        return float("inf") if tried[place]["diverged"] else float(tried[place]["loss"])

    place = len(LEARNING_RATES) // 2
    while (best := min((place, place - 1, place + 1), key=loss)) != place:
        place = best
    return [{**row, "chosen": number == place} for number, row in sorted(tried.items())]


def measure(recipe: Recipe, splits: Splits, device: str, lines: Log | None = None) -> Row:
    """Train one cell; its row of accuracy and loss. A run that diverges has neither."""
    row: Row = {name: getattr(recipe, name) for name in (*CELL, "learning_rate")} | {"data": splits.name}
    try:
        outcome = training.train(recipe, splits, lines or Log(None, "cifar-ablation", schema="resnet"), device=device)
    except Diverged:
        return {**row, "diverged": True, "correct": None, "n": None, "loss": None, "accuracy": None}
    test = outcome.test
    return {
        **row,
        "diverged": False,
        "correct": test.correct,
        "n": test.n,
        "loss": test.loss,
        "accuracy": test.accuracy,
    }


def run(
    design: Design,
    source: Callable[[], Splits],
    output: Path,
    *,
    jobs: int = 1,
    log: tuple[Path | None, str] = (None, ""),
    report: Callable[[str], object] | None = print,
) -> list[Row]:
    """Tune, then train every cell; rows of the cells, in the order of ``Design.cells``.

    Args:
        design: the factors.
        source: loads the data; called in every process, so it must be a module's function or a partial of one.
        output: folder of ``tuning.jsonl`` and ``cells.jsonl``. What they hold already is not run again; they must be
            of the same recipe.
        jobs: processes, of one thread each; 1 stays in this one.
        log: path and run id of a JSON Lines log that every training run appends to.
        report: is told a line a run; None: nobody is.

    Raises:
        ChimeraError: the folder holds runs of another recipe, or a process was killed (what it had finished is kept).
    """
    say = report or (lambda line: None)  # noqa: ARG005
    devices.check_device(design.device)
    recipes = list(design.cells())  # a name or a number that makes no sense is refused before anything runs
    shared = setting(design, source())
    tuning, cells = (Rows(output / f"{name}.jsonl", shared) for name in ("tuning", "cells"))
    rates = {}
    with Workers(jobs, source, design, log) as workers:
        if design.rates is None:
            pairs = list(itertools.product(design.optimizers, design.modes))
            chosen = {(r["optimizer"], r["mode"]): r["learning_rate"] for r in tuning.rows if r["chosen"]}
            for rows in workers.each(_tune_here, [pair for pair in pairs if pair not in chosen]):
                tuning.add(rows)
                best = next(row for row in rows if row["chosen"])
                say(f"{best['optimizer']}, {best['mode']}: learning rate {best['learning_rate']:g}")
            rates = {(r["optimizer"], r["mode"]): r["learning_rate"] for r in tuning.rows if r["chosen"]}
        done = {tuple(row[name] for name in CELL): row for row in cells.rows}
        left = [
            replace(one, learning_rate=rates.get((one.optimizer, one.mode), one.learning_rate))
            for one in recipes
            if tuple(getattr(one, name) for name in CELL) not in done
        ]
        for number, row in enumerate(workers.each(_measure_here, [(one,) for one in left]), 1):
            cells.add([row])
            done[tuple(row[name] for name in CELL)] = row
            said = "diverged" if row["diverged"] else f"{row['accuracy']:.1%}"
            say(f"{number}/{len(left)} {', '.join(str(row[name]) for name in CELL)}: {said}")
    return [done[tuple(getattr(one, name) for name in CELL)] for one in recipes]


def setting(design: Design, splits: Splits) -> Row:
    """What all runs of a folder must have in common: the recipe, the data and the device."""
    base = {name: value for name, value in vars(design.base).items() if name not in (*CELL, "learning_rate")}
    rates = None
    if design.rates is not None:
        rates = {f"{optimizer} {mode}": rate for (optimizer, mode), rate in design.rates.items()}
    base |= {"data": splits.name, "data_digest": splits.digest(), "device": design.device}
    return {**base, "tuning_batches": design.tuning_batches, "given_learning_rate": rates}


class Workers:
    """Calls in this process, or in several; results come as they are ready."""

    def __init__(self, jobs: int, source: Callable[[], Splits], design: Design, log: tuple[Path | None, str]) -> None:
        self.arguments = (source, design, log)
        self.pool = None
        if jobs > 1:
            self.pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, self.arguments)
        else:
            _start(*self.arguments)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=error[0] is None, cancel_futures=True)

    def each(self, call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Results of ``call`` on each tuple of arguments, in any order."""
        if self.pool is None:
            for one in arguments:
                yield call(*one)
            return
        try:
            for future in as_completed([self.pool.submit(call, *one) for one in arguments]):
                yield future.result()
        except BrokenProcessPool as error:
            raise ChimeraError(
                "a training process was killed (out of memory?): what had finished is kept; the same command goes on"
            ) from error


_HERE: dict[str, Any] = {}  # what a process trains on: a design is sent to it once, and data cannot be sent


def _start(source: Callable[[], Splits], design: Design, log: tuple[Path | None, str]) -> None:
    keep_memory()
    _HERE.update(design=design, splits=source(), log=log)


def _start_worker(source: Callable[[], Splits], design: Design, log: tuple[Path | None, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    torch.set_num_threads(1)
    _start(source, design, log)


def _tune_here(optimizer: str, mode: str) -> list[Row]:
    return tune(_HERE["design"], _HERE["splits"], optimizer, mode)


def _measure_here(recipe: Recipe) -> Row:
    path, run_id = _HERE["log"]
    with Log(path, "cifar-ablation", schema="resnet", run_id=run_id or None) as lines:
        return measure(recipe, _HERE["splits"], _HERE["design"].device, lines)
