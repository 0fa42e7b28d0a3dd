"""The golden numbers of the RAR family, and weights filled by the rule they were made with."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.provenance.rar import RAR, MaskGitVQGAN, MaskGitVQGANConfig, RARConfig

if TYPE_CHECKING:
    from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES = {"cls_token", "pos_embed", "target_aware_pos_embed", "timesteps_embeddings"}


def numbers(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "rar" / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def fill(model: nn.Module) -> None:
    """Each tensor from a generator seeded by its key, scaled by what kind of tensor it is; then evaluation mode."""
    for key, tensor in model.state_dict().items():
        normal = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(tuple(tensor.shape))
        scale, offset = 1 / math.sqrt(math.prod(tensor.shape[1:])), 0.0
        if key in TABLES:
            scale = 0.3
        elif key == "quantize.embedding.weight":
            scale = 0.5
        elif tensor.dim() == 1:
            scale, offset = 0.1, float(key.endswith(".weight"))
        tensor.copy_(torch.from_numpy((normal * scale + offset).astype(np.float32)))
    model.eval()


def tokenizer(z_channels: int = 32) -> MaskGitVQGAN:
    model = MaskGitVQGAN(MaskGitVQGANConfig(codebook_size=64, z_channels=z_channels, hidden_channels=32))
    fill(model)
    return model


def transformer(width: int = 64, length: int = 16, intermediate: int = 256) -> RAR:
    config = RARConfig(
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=intermediate,
        image_seq_len=length,
        codebook_size=64,
        condition_num_classes=10,
    )
    model = RAR(config)
    fill(model)
    return model
