"""Train the networks of part I on CIFAR-10, with checkpoints, and write weights with a model card.

Recipe: SGD with Nesterov momentum, one linear warm-up and decay, label smoothing, random flips and
shifted crops, the first epochs on smaller crops (progressive resizing). The last 1,000 training
images are held out to watch the training; the test split is scored once, at the end.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from chimera_lib.augmentation import as_batch, crops
from chimera_lib.devices import check_device
from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images import models

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import nn

VALIDATION = 1000


@dataclass(frozen=True)
class Recipe:
    """One training run; every field is part of the checkpoint's identity."""

    model: str = "cifarvgg"
    epochs: int = 16
    small_epochs: int = 12  # of those, how many train on small crops
    small_side: int = 27  # pixels
    batch: int = 128
    learning_rate: float = 0.1
    warmup: float = 0.15  # share of all steps
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.1
    pad: int = 4  # reflected pixels around the image before cropping
    seed: int = 0
    limit: int | None = None  # training images used; None is all but the held-out ones
    precision: str = "auto"  # float32, bfloat16, or auto: bfloat16 where the hardware multiplies it


RECIPES = {
    "cifarvgg": Recipe(),
    "resnet20": Recipe(model="resnet20", epochs=32, small_epochs=0),
}


def resolve_precision(name: str, device: str) -> str:
    """Turn ``auto`` into what this machine multiplies fast: bfloat16 with AVX512-BF16, AMX or CUDA."""
    if name in ("float32", "bfloat16"):
        return name
    if name != "auto":
        raise UnknownName("precision", name, ("auto", "float32", "bfloat16"))
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "bfloat16" if device == "cuda" or "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray, device: str = "cpu") -> float:
    """Share of uint8 images (N, 32, 32, 3) that ``model`` in eval mode classifies as ``labels`` (N,)."""
    hits = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            logits = model(as_batch(images[start : start + 500]).to(device))
            hits += int((logits.argmax(1).cpu() == torch.from_numpy(labels[start : start + 500])).sum())
    return hits / len(images)


def rate(step: int, total: int, recipe: Recipe) -> float:
    """Learning rate at ``step`` of ``total``: linear up over the warm-up, linear down to zero."""
    warm = max(1, int(recipe.warmup * total))
    return recipe.learning_rate * min((step + 1) / warm, (total - step) / max(1, total - warm))


def save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.SGD, state: dict[str, str]) -> None:
    """Write weights, momentum and progress as one safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum.{name}"] = buffer.contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata=state)
    temporary.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.SGD, recipe: str) -> tuple[int, float]:
    """Restore a checkpoint; returns (epochs done, seconds spent). Raises ChimeraError if its recipe differs."""
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ChimeraError(f"{path} is damaged ({error}); delete it to begin anew") from error
    with opened as file:
        state = file.metadata()
        if state["recipe"] != recipe:
            raise ChimeraError(f"{path} holds a checkpoint of another recipe; delete it or choose another --output")
        names = set(file.keys())
        model.load_state_dict({k[6:]: file.get_tensor(k) for k in names if k.startswith("model.")})
        for name, parameter in model.named_parameters():
            if f"momentum.{name}" in names:
                optimizer.state[parameter]["momentum_buffer"] = file.get_tensor(f"momentum.{name}").to(parameter)
    return int(state["epoch"]), float(state["seconds"])


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.SGD,
    data: tuple[torch.Tensor, torch.Tensor],
    recipe: Recipe,
    epoch: int,
    device: str,
) -> float:
    """One pass over data (images (N, 3, 32, 32), labels (N,)); returns the mean loss."""
    images, labels = data
    rng = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
    order = torch.randperm(len(images), generator=rng)
    steps = len(images) // recipe.batch
    side = recipe.small_side if epoch < recipe.small_epochs else images.shape[-1]
    low = resolve_precision(recipe.precision, device) == "bfloat16"
    losses = 0.0
    model.train()
    for step in range(steps):
        pick = order[step * recipe.batch : (step + 1) * recipe.batch]
        x = crops(images[pick], side, recipe.pad, rng).to(device, memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = rate(epoch * steps + step, recipe.epochs * steps, recipe)
        with torch.autocast(device, torch.bfloat16, enabled=low):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels[pick].to(device), label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += float(loss.detach())
    return losses / max(1, steps)


def train(
    recipe: Recipe,
    split: dict[str, np.ndarray],
    output: Path,
    device: str = "cpu",
    report: Callable[[str], None] = print,
) -> dict[str, object]:
    """Train by ``recipe`` on ``split`` (train_images, train_labels, test_images, test_labels), resuming if killed.

    Writes ``output/<model>.checkpoint.safetensors`` after each epoch and, at the end,
    ``output/<model>.safetensors`` with its card ``<model>.json``; returns the card.
    """
    from safetensors.torch import save_file

    check_device(device)
    torch.manual_seed(recipe.seed)
    model = models.build(recipe.model).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    identity = json.dumps(asdict(recipe), sort_keys=True)
    checkpoint = output / f"{recipe.model}.checkpoint.safetensors"
    epoch, spent = load_checkpoint(checkpoint, model, optimizer, identity) if checkpoint.is_file() else (0, 0.0)
    keep = slice(0, len(split["train_images"]) - VALIDATION)
    count = len(split["train_images"][keep]) if recipe.limit is None else recipe.limit
    images = as_batch(split["train_images"][keep][:count])
    labels = torch.from_numpy(split["train_labels"][keep][:count])
    held_out = split["train_images"][-VALIDATION:], split["train_labels"][-VALIDATION:]
    for done in range(epoch, recipe.epochs):
        started = time.monotonic()
        loss = train_epoch(model, optimizer, (images, labels), recipe, done, device)
        spent += time.monotonic() - started
        watched = accuracy(model.eval(), *held_out, device)
        save_checkpoint(
            checkpoint, model, optimizer, {"recipe": identity, "epoch": str(done + 1), "seconds": str(spent)}
        )
        report(f"epoch {done + 1}/{recipe.epochs}: loss {loss:.3f}, held-out accuracy {watched:.3f}, {spent:.0f} s")
    card = {
        "model": recipe.model,
        "data": "CIFAR-10, 49,000 training images" if recipe.limit is None else f"CIFAR-10, {count} training images",
        "recipe": {f.name: getattr(recipe, f.name) for f in fields(recipe)},
        "precision": resolve_precision(recipe.precision, device),
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": round(spent),
        "held_out_accuracy": accuracy(model.eval(), *held_out, device),
        "test_accuracy": accuracy(model, split["test_images"], split["test_labels"], device),
    }
    weights = {k: v.cpu().contiguous() for k, v in model.state_dict().items()}
    temporary = output / f"{recipe.model}.partial"
    save_file(weights, temporary, metadata={"model": recipe.model})
    temporary.replace(output / f"{recipe.model}.safetensors")
    (output / f"{recipe.model}.json").write_text(json.dumps(card, indent=2) + "\n")
    (output / f"{recipe.model}.md").write_text(card_text(card))
    return card


def card_text(card: dict[str, object]) -> str:
    """The model card for people: what the weights are, where they come from, what they are good for."""
    name = str(card["model"])
    settings: dict[str, object] = dict(card["recipe"])  # type: ignore[call-overload]
    recipe = "\n".join(f"| {key} | {value} |" for key, value in settings.items())
    return f"""# {name}

{(models.MODELS[name].__doc__ or "").splitlines()[0]}

- **Input**: RGB images of 32x32 pixels as float32, `uint8 / 255`, no normalisation, shape (B, 3, 32, 32).
- **Output**: logits of the ten CIFAR-10 classes, shape (B, 10).
- **Data**: {card["data"]}; the last {VALIDATION} training images only watched the training, and the
  test images were scored once, at its end.
- **Test accuracy**: {card["test_accuracy"]:.4f} on the 10,000 CIFAR-10 test images
  (held-out training images: {card["held_out_accuracy"]:.3f}).
- **Made by**: `chimera images train --model {name}`, {card["seconds"]} s on {card["threads"]} thread(s) of
  {card["device"]}, torch {card["torch"]}, forward passes in {card["precision"]}; the weights are float32.
- **Use**: studying how one network differs between linear algebra backends. It was not made to be robust,
  fair or accurate beyond that, and its inputs are tiny pictures of ten things.
- **Licence**: MIT, as the project.

| recipe | |
|---|---|
{recipe}
"""
