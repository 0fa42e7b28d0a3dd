"""A repeated catalyst as files: its tensors as safetensors, and what is known of it as JSON beside."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chimera_lib.prion.catalysts.protocol import Catalyst

SUFFIX = ".safetensors"


def save(path: Path, catalyst: Catalyst, made_with: Mapping[str, Any]) -> Path:
    """Write `labels` (1, T) and, of a soft catalyst, `embeddings` (1, T, d); returns the JSON file beside.

    Args:
        path: ends in .safetensors.
        catalyst: one that shows the same at every step.
        made_with: what else to keep, such as model and seed; what JSON can hold.

    Raises:
        ChimeraError: the path has another ending, or the catalyst is new at each step.
    """
    if path.suffix != SUFFIX:
        raise ChimeraError(f"{path}: expected a name that ends in {SUFFIX}")
    if not catalyst.repeated:
        raise ChimeraError(f"{catalyst.name} is new at each step, so there is nothing to save: choose a repeated kind")
    shown = catalyst.batch(0).to("cpu")
    tensors = {"labels": shown.labels} | ({} if shown.embeddings is None else {"embeddings": shown.embeddings})
    beside = path.with_suffix(".json")
    note = {"kind": catalyst.name, **made_with, "facts": dict(catalyst.facts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for target, content in (
        (path, safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})),
        (beside, (json.dumps(note, indent=1, allow_nan=False) + "\n").encode()),
    ):
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(target)
    return beside


def load(path: Path) -> Catalyst:
    """Read what `save` wrote. Raises ChimeraError where a file is missing or holds something else."""
    beside = path.with_suffix(".json")
    for file in (path, beside):
        if not file.is_file():
            raise ChimeraError(f"no catalyst at {file}: make one with chimera prion catalyst --output {path}")
    try:
        tensors = safetensors.torch.load_file(path)
        note = json.loads(beside.read_text(encoding="utf-8"))
        shown = Batch(tensors["labels"], tensors.get("embeddings"))
        return protocol.repeated(note["kind"], shown, note["facts"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ChimeraError(f"{path} and {beside.name} hold no catalyst ({error!r}): make it again") from error
