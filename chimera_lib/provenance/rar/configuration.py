"""Shapes of the RAR family, the published sizes or any other; names of fields are those of the public recipes.

Source: Yu et al., Randomized Autoregressive Visual Generation, 2024 (arXiv 2411.00776); the tokenizer is MaskGIT's
(Chang et al., MaskGIT: Masked Generative Image Transformer, 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera_lib.errors import ChimeraError


@dataclass(frozen=True, kw_only=True)
class MaskGitVQGANConfig:
    """The tokenizer; the defaults are the published one's, for images of 256 pixels a side.

    An image's side shrinks by 2 at every level but the last. Raises ChimeraError where channels do not divide.
    """

    codebook_size: int = 1024
    z_channels: int = 256  # length of one code
    hidden_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4)  # channels of a level, in hidden_channels
    num_res_blocks: int = 2
    num_channels: int = 3
    norm_groups: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "codebook_size", "z_channels", "hidden_channels", "num_res_blocks")
        _positive(self, "num_channels", "norm_groups")
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ChimeraError(f"channel_mult is {self.channel_mult}; expected one factor of at least 1 a level")
        for factor in self.channel_mult:
            if self.hidden_channels * factor % self.norm_groups:
                raise ChimeraError(
                    f"{self.hidden_channels * factor} channels (hidden_channels {self.hidden_channels} x {factor}) do "
                    f"not split into {self.norm_groups} groups; expected a multiple, or another norm_groups"
                )

    @property
    def stride(self) -> int:
        """Pixels of an image's side for one position of the token grid."""
        return 2 ** (len(self.channel_mult) - 1)


@dataclass(frozen=True, kw_only=True)
class RARConfig:
    """The transformer; `dropout` and `attn_drop` act in training only.

    Raises ChimeraError where the width does not split into the heads.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int = 16
    intermediate_size: int
    image_seq_len: int = 256
    codebook_size: int = 1024
    condition_num_classes: int = 1000
    dropout: float = 0.0
    attn_drop: float = 0.0

    def __post_init__(self) -> None:
        _positive(self, "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        _positive(self, "image_seq_len", "codebook_size", "condition_num_classes")
        if self.hidden_size % self.num_attention_heads:
            raise ChimeraError(
                f"hidden_size {self.hidden_size} does not split into {self.num_attention_heads} heads; expected a "
                "multiple of num_attention_heads"
            )


def _positive(config: object, *names: str) -> None:
    """Refuse a number below 1, by name."""
    for name in names:
        if getattr(config, name) < 1:
            raise ChimeraError(f"{name} is {getattr(config, name)}; expected at least 1")
