"""Checkpoints of a training run: one safetensors file with the recipe in it, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.ternary.experiments.recipe import Recipe


def save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, facts: dict[str, Any]) -> None:
    """Write the network, the optimizer's state, the recipe and ``facts`` (what JSON can say, such as the epochs done).

    A checkpoint that stood at ``path`` is replaced once the new one is complete.
    """
    from safetensors.torch import save_file

    kept = optimizer.state_dict()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    plain: dict[str, Any] = {}
    for number, state in kept["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{number}.{name}"] = value
            else:
                plain[f"{number}.{name}"] = value
    texts = {"recipe": asdict(recipe), "groups": kept["param_groups"], "plain": plain, "facts": facts}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        # Clones: safetensors refuses tensors that share memory, as the optimizer's buckets do.
        whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        save_file(whole, partial, metadata={name: json.dumps(value) for name, value in texts.items()})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> dict[str, Any]:
    """Put a checkpoint into ``model`` and ``optimizer``, and return its facts.

    Raises:
        ChimeraError: the file is damaged, is no checkpoint of this project, or was made by another recipe.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            texts = {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name in NAMES}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, ValueError, OSError) as error:
        raise ChimeraError(f"{path} is no checkpoint that can be read ({error}); delete it or name another") from error
    if missing := NAMES - texts.keys():
        raise ChimeraError(f"{path} is no checkpoint of chimera ternary: it lacks {', '.join(sorted(missing))}")
    here, there = asdict(recipe), texts["recipe"]
    differing = [f"{name} {there.get(name)!r}, now {here[name]!r}" for name in here if here[name] != there.get(name)]
    if differing:
        raise ChimeraError(
            f"{path} is of another run ({'; '.join(differing)}): name another file, or delete it to begin anew"
        )
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            number, _, entry = name.removeprefix("optimizer.").partition(".")
            state.setdefault(int(number), {})[entry] = value
    for name, value in texts["plain"].items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": _as_given(texts["groups"], optimizer)})
    return texts["facts"]


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of this project: False for anything else, and for a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).keys() >= NAMES
    except (SafetensorError, OSError):
        return False


NAMES = {"recipe", "groups", "plain", "facts"}
PARTIAL = ".chimera-ternary.partial"  # ends the name of a checkpoint that is being written


def _as_given(groups: list[dict[str, Any]], optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Parameter groups read from JSON, with tuples where the optimizer has tuples (JSON knows lists only)."""
    return [
        {name: tuple(value) if isinstance(mine.get(name), tuple) else value for name, value in group.items()}
        for group, mine in zip(groups, optimizer.param_groups, strict=True)
    ]
