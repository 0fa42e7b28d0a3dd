"""Pythia: the shapes of the six sizes, and where their weights are had from.

Source: Biderman et al., Pythia: a suite for analyzing large language models across training and scaling (2023), table
1, and the model cards of EleutherAI/pythia-70m … pythia-2.8b.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib.errors import AssetMissing, ChimeraError, UnknownName

if TYPE_CHECKING:
    from transformers import GPTNeoXConfig

FOLDER = "CHIMERA_PYTHIA"  # environment variable: a folder that holds pythia-70m and so on, or is one of them
VOCABULARY = 50_304  # 50,277 tokens of the tokenizer, and rows without a token up to a multiple of 128
PATIENCE = 5.0  # seconds to wait for the hub's first answer


@dataclass(frozen=True)
class Shape:
    """One size: layers, hidden width, attention heads, and its parameters without both embeddings (model card)."""

    layers: int
    width: int
    heads: int
    inner: int


SIZES = {
    "70m": Shape(6, 512, 8, 18_915_328),
    "160m": Shape(12, 768, 12, 85_056_000),
    "410m": Shape(24, 1024, 16, 302_311_424),
    "1b": Shape(16, 2048, 8, 805_736_448),
    "1.4b": Shape(24, 2048, 16, 1_208_602_624),
    "2.8b": Shape(32, 2560, 32, 2_517_652_480),
}


def config(size: str) -> GPTNeoXConfig:
    """The architecture of a size: GPT-NeoX with parallel blocks and rotary embeddings on a quarter of each head.

    The feed-forward layer is four times as wide as the model; input and output embeddings are apart.

    Raises:
        UnknownName: there is no such size.
    """
    from transformers import GPTNeoXConfig

    if size not in SIZES:
        raise UnknownName("size of Pythia", size, SIZES)
    shape = SIZES[size]
    return GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=2048,
        rope_parameters={"rope_theta": 10_000.0, "rope_type": "default", "partial_rotary_factor": 0.25},
        use_parallel_residual=True,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )


def size_of(name: str) -> str | None:
    """``"70m"`` for ``70m``, ``pythia-70m`` and ``EleutherAI/pythia-70m``; None for what is no size of Pythia."""
    size = name.removeprefix("EleutherAI/").removeprefix("pythia-")
    return size if size in SIZES else None


def find(size: str) -> Path | str:
    """The folder of a size's weights, or its name on the Hugging Face hub where that answers.

    In order: the folder that the environment variable CHIMERA_PYTHIA names (`pythia-<size>` in it, or itself, if its
    shape is that of the size), the hub's own cache on this machine, the hub. HF_HUB_OFFLINE keeps the hub out.

    Raises:
        UnknownName: there is no such size.
        ChimeraError: the folder that is named holds no such model.
        AssetMissing: nothing is on this machine and the hub does not answer.
    """
    if size not in SIZES:
        raise UnknownName("size of Pythia", size, SIZES)
    if given := os.environ.get(FOLDER):
        return _given(size, Path(given).expanduser())
    import huggingface_hub

    identity = f"EleutherAI/pythia-{size}"
    if isinstance(cached := huggingface_hub.try_to_load_from_cache(identity, "model.safetensors"), str):
        return Path(cached).parent
    if (reason := _silent(identity)) is not None:
        raise AssetMissing(
            f"model {size!r} is not here: {FOLDER} is not set, the hub's cache has no {identity}, and the hub "
            f"{reason}; copy {identity} (config, tokenizer, model.safetensors) into FOLDER/pythia-{size} "
            f"and set {FOLDER}=FOLDER"
        )
    return identity


def _given(size: str, folder: Path) -> Path:
    """The folder of a size in the one that the user named."""
    for place in (folder / f"pythia-{size}", folder):
        if (place / "config.json").is_file():
            if place != folder or _has_shape(place, SIZES[size]):
                return place
            raise ChimeraError(
                f"{FOLDER}={folder} holds another model than pythia-{size}; put that into {folder.parent}"
            )
    raise ChimeraError(
        f"{FOLDER}={folder} holds no pythia-{size}: expected {folder / f'pythia-{size}' / 'config.json'}, "
        "with tokenizer and model.safetensors beside it"
    )


def _has_shape(folder: Path, shape: Shape) -> bool:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return (content.get("num_hidden_layers"), content.get("hidden_size")) == (shape.layers, shape.width)


def _silent(identity: str) -> str | None:
    """Why the hub cannot be used, or None where it answers. One short question instead of from_pretrained's retries."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError

    if constants.HF_HUB_OFFLINE:
        return "is switched off (HF_HUB_OFFLINE)"
    try:
        HfApi().model_info(identity, timeout=PATIENCE, token=False)
    except (HTTPError, OSError) as error:
        first = (str(error).strip().splitlines() or [""])[0][:120]
        return f"({constants.ENDPOINT}) does not answer: {type(error).__name__}: {first}"
    return None
