"""The RAR family: one tokenizer (MaskGitVQGAN) and transformers that write its tokens one by one (RAR).

Source: Yu et al., Randomized Autoregressive Visual Generation, 2024 (arXiv 2411.00776).
"""

from chimera_lib.provenance.rar.configuration import MaskGitVQGANConfig, RARConfig
from chimera_lib.provenance.rar.guidance import guided_logits
from chimera_lib.provenance.rar.published import (
    SAMPLING,
    TOKENIZERS,
    TRANSFORMERS,
    Sampling,
    build_tokenizer,
    build_transformer,
)
from chimera_lib.provenance.rar.sampling import Decoding
from chimera_lib.provenance.rar.tokenizer import MaskGitVQGAN
from chimera_lib.provenance.rar.transformer import RAR

__all__ = [
    "RAR",
    "SAMPLING",
    "TOKENIZERS",
    "TRANSFORMERS",
    "Decoding",
    "MaskGitVQGAN",
    "MaskGitVQGANConfig",
    "RARConfig",
    "Sampling",
    "build_tokenizer",
    "build_transformer",
    "guided_logits",
]
