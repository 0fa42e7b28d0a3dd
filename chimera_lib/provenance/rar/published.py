"""The public RAR models by name: the tokenizer, four transformers, and how each samples for its best FID.

Source: github.com/bytedance/1d-tokenizer, README_RAR.md; Yu et al., Randomized Autoregressive Visual Generation, 2024.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from chimera_lib.errors import UnknownName
from chimera_lib.provenance.rar.configuration import MaskGitVQGANConfig, RARConfig
from chimera_lib.provenance.rar.tokenizer import MaskGitVQGAN
from chimera_lib.provenance.rar.transformer import RAR

HUB = "yucornetto/RAR"  # the transformers' files are called NAME.bin
TOKENIZER_HUB = "fun-research/TiTok"  # so is the tokenizer's

TOKENIZERS = {"maskgit-vqgan-imagenet-f16-256": MaskGitVQGANConfig()}
TRANSFORMERS = {
    "rar_b": RARConfig(hidden_size=768, num_hidden_layers=24, intermediate_size=3072),
    "rar_l": RARConfig(hidden_size=1024, num_hidden_layers=24, intermediate_size=4096),
    "rar_xl": RARConfig(hidden_size=1280, num_hidden_layers=32, intermediate_size=5120),
    "rar_xxl": RARConfig(hidden_size=1408, num_hidden_layers=40, intermediate_size=6144),
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of `RAR.generate`: guidance scale, power of its schedule, temperature."""

    cfg: float
    cfg_pow: float
    temperature: float


SAMPLING = {
    "rar_b": Sampling(cfg=16.0, cfg_pow=2.75, temperature=1.0),
    "rar_l": Sampling(cfg=15.5, cfg_pow=2.5, temperature=1.02),
    "rar_xl": Sampling(cfg=6.9, cfg_pow=1.5, temperature=1.02),
    "rar_xxl": Sampling(cfg=8.0, cfg_pow=1.2, temperature=1.02),
}


def build_tokenizer(name: str = "maskgit-vqgan-imagenet-f16-256", **changes: Any) -> MaskGitVQGAN:
    """The tokenizer of that name, untrained; `changes` are fields of `MaskGitVQGANConfig`. Raises UnknownName."""
    if name not in TOKENIZERS:
        raise UnknownName("tokenizer of RAR", name, TOKENIZERS)
    return MaskGitVQGAN(dataclasses.replace(TOKENIZERS[name], **changes))


def build_transformer(name: str, **changes: Any) -> RAR:
    """The transformer of that name, untrained; `changes` are fields of `RARConfig`. Raises UnknownName.

    Within ``with torch.device("meta"):`` it takes no memory.
    """
    if name not in TRANSFORMERS:
        raise UnknownName("RAR", name, TRANSFORMERS)
    return RAR(dataclasses.replace(TRANSFORMERS[name], **changes))
