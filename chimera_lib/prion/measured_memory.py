"""The memory that training steps really take, to hold `chimera_lib.prion.memory` against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from chimera_lib.devices import check_device
from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches, chunked_loss, ladder, memory, models, optimizers, out_of_memory, stepping

if TYPE_CHECKING:
    from torch import nn

RATE = 1e-5  # of the steps: small, since random weights are not to go anywhere


@dataclass(frozen=True)
class Measured:
    """A few training steps.

    Attributes:
        peak: bytes at the worst moment: of tensors on the GPU as torch's allocator counts them; on the CPU, how much
            the process grew at most.
        reserved: bytes that the GPU's allocator held for it, with what lay unused between; 0 on the CPU.
        seconds: of one step, the first not counted where there are more.
        loss: of the last step, in nats.
    """

    peak: int
    reserved: int
    seconds: float
    loss: float


def measure(
    name: str,
    *,
    precision: str = "bf16",
    tuning: str = "full",
    optimizer: str = "adafactor",
    length: int = 64,
    batch: int = 1,
    checkpointing: bool = True,
    positions: int | None = chunked_loss.POSITIONS,
    stepwise: bool = True,
    steps: int = 3,
    device: str = "cpu",
    random_weights: bool = True,
    seed: int = 0,
) -> Measured:
    """Train for some steps on one sequence of random tokens, as an attack does, and look at the memory.

    Args:
        name: a model or folder; see `memory.estimate` for it and for the options up to `stepwise`.
        steps: at least 1; from the second on the optimizer has its state.
        device: cpu or cuda. On the CPU the process should be a fresh one: memory that it has already asked the system
            for and does not use is not seen to grow.
        random_weights: of the model's true shape, which need no download; False loads the model. Quantised weights
            are made from a model that is loaded.
        seed: of weights and tokens.

    Raises:
        ChimeraError: fewer than 1 step, or random weights that are to be quantised; and as `models.load`.
        OutOfMemory: there was too little.
    """
    models.check(precision, tuning)
    check_device(device)
    if steps < 1:
        raise ChimeraError(f"{steps} steps: expected at least 1")
    if random_weights and (precision not in models.TYPES or tuning != "full"):
        raise ChimeraError(f"random weights in {precision} with tuning {tuning}: load a model for that, or take full")
    with out_of_memory.named(f"training {name} in {precision}"):
        if device == "cpu":  # libraries load themselves at their first use, and are not to be counted
            _train(
                ladder.new("neox-0.3m", seed).train(), _shown(8, 1, 8, seed), optimizer, 2, positions, stepwise=stepwise
            )
        start = _begin(device)
        if random_weights:
            model = _random(name, precision, device, seed)
            if checkpointing:
                model.activation_checkpointing_enable({"use_reentrant": False})
        else:
            model = models.load(
                name, precision=precision, tuning=tuning, seed=seed, device=device, checkpointing=checkpointing
            ).model
        shown = _shown(model.config.vocab_size, batch, length, seed).to(device)
        times, loss = _train(model.train(), shown, optimizer, steps, positions, stepwise=stepwise)
        peak, reserved = _peak(device, start)
    return Measured(peak, reserved, sum(times[1:] or times) / len(times[1:] or times), loss)


def _random(name: str, precision: str, device: str, seed: int) -> Any:
    from transformers import AutoModelForCausalLM

    kind, devices = models.TYPES[precision], [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(memory.configuration(name), attn_implementation="eager", dtype=kind)


def _shown(vocabulary: int, batch: int, length: int, seed: int) -> batches.Batch:
    draws = torch.Generator().manual_seed(seed)
    return batches.Batch(torch.randint(vocabulary, (batch, length), generator=draws))


def _train(
    model: nn.Module, shown: batches.Batch, optimizer: str, steps: int, positions: int | None, *, stepwise: bool
) -> tuple[list[float], float]:
    """Run the steps; returns the seconds of each, and the last loss."""

    def loss_of() -> torch.Tensor:
        if positions is None:
            return batches.loss(model, shown)
        return chunked_loss.loss(model, shown, positions=positions)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inside = stepping.StepInBackward(trained, lambda p: optimizers.build(optimizer, [p], RATE)) if stepwise else None
    outside = None if stepwise else optimizers.build(optimizer, trained, RATE)
    times, last = [], 0.0
    for _ in range(steps):
        began = time.perf_counter()
        value = loss_of()
        value.backward()
        if outside is not None:
            outside.step()
            outside.zero_grad()
        last = value.item()
        times.append(time.perf_counter() - began)
    if inside is not None:
        inside.remove()
    return times, last


def _begin(device: str) -> int:
    """Set the record of the largest size back; returns the present size of the process."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is in use, see proc(5)
    return int(psutil.Process().memory_info().rss)


def _peak(device: str, start: int) -> tuple[int, int]:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() - start, torch.cuda.max_memory_reserved()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 - start, 0
