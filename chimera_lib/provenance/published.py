"""The ten public checkpoints of both families: where each is found, the model it belongs to, and loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.provenance import checkpoints
from chimera_lib.provenance.rar import published as rar
from chimera_lib.provenance.var import configurations as var

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.provenance.var.vqvae import VQVAE


@dataclass(frozen=True)
class Source:
    """Where a checkpoint is found: family, tokenizer or transformer, the hub's repository and file."""

    family: str
    kind: str
    hub: str
    file: str


PUBLISHED = {
    **{name: Source("var", "tokenizer", var.HUB, f"{name}.pth") for name in var.TOKENIZERS},
    **{name: Source("var", "transformer", var.HUB, f"{name}.pth") for name in var.TRANSFORMERS},
    **{name: Source("rar", "tokenizer", rar.TOKENIZER_HUB, f"{name}.bin") for name in rar.TOKENIZERS},
    **{name: Source("rar", "transformer", rar.HUB, f"{name}.bin") for name in rar.TRANSFORMERS},
}


def skeleton(name: str, tokenizer: VQVAE | None = None) -> nn.Module:
    """The model of a public checkpoint on the meta device: shapes and dtypes, no memory.

    `tokenizer` is what a VAR transformer looks its codes up in; without one it gets a skeleton too, which is enough to
    compare keys. Raises UnknownName.
    """
    if name not in PUBLISHED:
        raise UnknownName("public checkpoint", name, PUBLISHED)
    source = PUBLISHED[name]
    with torch.device("meta"):
        if source.family == "rar":
            return rar.build_tokenizer(name) if source.kind == "tokenizer" else rar.build_transformer(name)
        if source.kind == "tokenizer":
            return var.build_tokenizer(name)
        return var.build_transformer(name, tokenizer or var.build_tokenizer())


def load(
    name: str,
    path: Path | str,
    *,
    tokenizer: VQVAE | None = None,
    dtype: torch.dtype = torch.float32,
    sha256: str | None = None,
) -> nn.Module:
    """A public model with the weights of its file, on the CPU, in evaluation mode; its floats are cast to `dtype`.

    Raises UnknownName, ChimeraError for a VAR transformer without its tokenizer, and as `checkpoints.load` does.
    """
    model = skeleton(name, tokenizer)
    source = PUBLISHED[name]
    if source.family == "var" and source.kind == "transformer" and tokenizer is None:
        raise ChimeraError(f"{name} needs the tokenizer it was trained with; load {', '.join(var.TOKENIZERS)} first")
    return checkpoints.load(model.to(dtype), path, sha256=sha256).eval()
