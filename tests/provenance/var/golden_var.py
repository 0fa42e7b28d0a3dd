"""The golden case ``small64``: numbers of the reference VAR with weights made from the names of its keys."""

from __future__ import annotations

import functools
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.provenance.var import VAR, VQVAE

if TYPE_CHECKING:
    from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"
LEFT = ("zero_k_bias", "lvl_1L", "attn_bias_for_masking", "ema_vocab_hit_SV")
NORMAL = {"pos_start", "pos_1LC"}
ATOL = 1e-4  # float32, sums in another order


def scale_and_offset(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Spread and mean of the normal numbers that fill a tensor."""
    last = key.rpartition(".")[2]
    if last == "scale_mul_1H11":
        return 0.25, math.log(4)
    if key in NORMAL:
        return 0.3, 0.0
    if key == "quantize.embedding.weight":
        return 0.5, 0.0
    if len(shape) == 1:
        return 0.1, 1.0 if last == "weight" else 0.0
    return 1 / math.sqrt(math.prod(shape[1:])), 0.0


def fill(model: nn.Module) -> None:
    """Load weights drawn by the rule of the golden files, strictly."""
    state = model.state_dict()
    for key, value in state.items():
        if key.rpartition(".")[2] in LEFT:
            continue
        shape = tuple(value.shape)
        scale, offset = scale_and_offset(key, shape)
        drawn = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
        state[key] = torch.from_numpy(np.float32(drawn * scale + offset))
    if "blocks.1.attn.scale_mul_1H11" in state:
        state["blocks.1.attn.scale_mul_1H11"][0, 0, 0, 0] = 5.0  # above the clamp
    model.load_state_dict(state, strict=True)


@functools.cache
def models() -> tuple[VQVAE, VAR]:
    """The tokenizer and the transformer of ``small64``, in evaluation mode."""
    vae = VQVAE(vocab_size=64, z_channels=8, ch=32, v_patch_nums=(1, 2, 3, 4))
    var = VAR(vae, num_classes=10, depth=2, embed_dim=128, num_heads=2)
    fill(vae)
    fill(var)
    return vae.eval(), var.eval()


@functools.cache
def numbers(case: str = "small64") -> dict[str, torch.Tensor]:
    """Every array of a golden file."""
    with np.load(GOLDEN / "var" / f"{case}.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def images() -> torch.Tensor:
    """The golden images (2, 3, 64, 64) in [0, 1]."""
    return numbers()["image_u8"].float() / 255
