"""The codebook of the MaskGIT tokenizer: one nearest code a position (van den Oord et al. 2017, equation 1)."""

from __future__ import annotations

import math

import torch
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar.indices import check


class VectorQuantizer(nn.Module):
    """A table of `codebook_size` codes of `z_channels` numbers each."""

    def __init__(self, codebook_size: int, z_channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook_size, z_channels)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        """The index of the nearest code of every position: (B, z, h, w) -> int64 (B, h * w), row by row."""
        return self.distances(f).argmin(dim=-1)

    def distances(self, f: torch.Tensor) -> torch.Tensor:
        """Squared Euclidean distances of features (B, z, h, w) to all codes: float32 (B, h * w, V).

        Raises ChimeraError for features of another number of channels.
        """
        codes = self.embedding.weight.float()  # (V, z); half precision would confuse near codes
        if f.dim() != 4 or f.shape[1] != codes.shape[1]:
            raise ChimeraError(f"features of shape {tuple(f.shape)}; expected (B, {codes.shape[1]}, h, w)")
        rows = f.flatten(2).transpose(1, 2).float()  # (B, h * w, z)
        return rows.square().sum(-1, keepdim=True) - 2 * rows @ codes.T + codes.square().sum(-1)

    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """The codes of indices (B, h * w), a square grid, or (B, h, w): (B, z, h, w).

        Raises ChimeraError for a grid that is not square, and for indices outside the codebook.
        """
        if indices.dim() == 2:
            side = math.isqrt(indices.shape[1])
            if side * side != indices.shape[1]:
                raise ChimeraError(f"{indices.shape[1]} indices make no square grid; give them as (B, h, w)")
            indices = indices.unflatten(1, (side, side))
        if indices.dim() != 3:
            raise ChimeraError(f"indices have the shape {tuple(indices.shape)}; expected (B, L) or (B, h, w)")
        check("indices of codes", indices, self.embedding.num_embeddings)
        return self.embedding(indices).permute(0, 3, 1, 2)
