"""The public VAR models by name: the tokenizer, and transformers of four depths (github.com/FoundationVision/VAR)."""

from __future__ import annotations

from typing import Any

from chimera_lib.errors import UnknownName
from chimera_lib.provenance.var.transformer import VAR
from chimera_lib.provenance.var.vqvae import PATCH_NUMS, VQVAE

HUB = "FoundationVision/var"  # the files are called NAME.pth

TOKENIZERS: dict[str, dict[str, Any]] = {
    "vae_ch160v4096z32": {"vocab_size": 4096, "z_channels": 32, "ch": 160, "v_patch_nums": PATCH_NUMS},
}

TRANSFORMERS: dict[str, dict[str, Any]] = {
    f"var_d{depth}": {"num_classes": 1000, "depth": depth, "embed_dim": 64 * depth, "num_heads": depth}
    for depth in (16, 20, 24, 30)
}


def build_tokenizer(name: str = "vae_ch160v4096z32", **changes: Any) -> VQVAE:
    """The tokenizer of that name, untrained; ``changes`` are arguments of `VQVAE`. Raises UnknownName."""
    if name not in TOKENIZERS:
        raise UnknownName("tokenizer of VAR", name, TOKENIZERS)
    return VQVAE(**{**TOKENIZERS[name], **changes})


def build_transformer(name: str, tokenizer: VQVAE, **changes: Any) -> VAR:
    """The transformer of that name, untrained, on a tokenizer; ``changes`` are arguments of `VAR`.

    Within ``with torch.device("meta"):`` it takes no memory. Raises UnknownName.
    """
    if name not in TRANSFORMERS:
        raise UnknownName("VAR", name, TRANSFORMERS)
    return VAR(tokenizer, **{**TRANSFORMERS[name], **changes})
