"""VAR's quantizer: a feature map as a sum over scales of upsampled, convolved codebook entries.

Tian et al. 2024 (arXiv 2404.02905), algorithms 1 (encoding) and 2 (reconstruction). With f the encoder's features,
z_k(r_k) the codebook entries of scale k and phi_k a half-residual convolution,

    f_Z = sum_k phi_k(upsample(z_k)),    r_k = nearest(downsample(f - sum_{j<k} phi_j(upsample(z_j)))).

Tokens of all scales lie behind one another in one tensor (B, L), coarse to fine, each scale row by row:
L = sum of patch_nums squared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Sequence


class HalfResidual(nn.Conv2d):
    """phi: (1 - ratio) x + ratio conv(x), a 3x3 convolution that keeps the shape."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.ratio = abs(ratio)

    def forward(self, x: Tensor) -> Tensor:
        return (1 - self.ratio) * x + self.ratio * super().forward(x)


class PartlyShared(nn.Module):
    """``count`` convolutions for all scales (the public checkpoint: 4 for 10)."""

    def __init__(self, phis: Sequence[nn.Module]) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(phis)


class Shared(nn.Module):
    """One convolution for all scales."""

    def __init__(self, phi: nn.Module) -> None:
        super().__init__()
        self.qresi = phi


def phi_of_scales(scales: int, count: int) -> list[int]:
    """Which of ``count`` shared convolutions each scale uses.

    Scale s takes the tick nearest to s / (scales - 1). Of ten scales with four convolutions the third and the eighth
    lie halfway between two ticks, where rounding decides: hence numpy's own linspace, as in the reference.
    """
    share = 3 if count == 4 else 2
    ticks = np.linspace(1 / share / count, 1 - 1 / share / count, count)
    return [int(np.argmin(np.abs(ticks - scale / max(scales - 1, 1)))) for scale in range(scales)]


class MultiScaleQuantizer(nn.Module):
    """Tokens of a feature map (B, Cvae, h, h) and the way back, h = patch_nums[-1].

    Args:
        vocab_size: entries of the codebook, V.
        z_channels: channels of an entry and of the features, Cvae.
        patch_nums: sides of the token maps, ascending.
        using_znorm: nearest by cosine instead of by Euclidean distance.
        beta: weight of the commitment loss.
        quant_resi: phi's share of the convolution; 0 leaves phi out.
        share_quant_resi: 0: a phi for each scale; 1: one for all; else as many, shared by nearness of scale.

    Raises ChimeraError for patch_nums that do not ascend.
    """

    ema_vocab_hit_SV: Tensor  # noqa: N815  (the checkpoint's key; a statistic of the reference's training)

    def __init__(
        self,
        vocab_size: int,
        z_channels: int,
        patch_nums: Sequence[int],
        *,
        using_znorm: bool = False,
        beta: float = 0.25,
        quant_resi: float = 0.5,
        share_quant_resi: int = 4,
    ) -> None:
        super().__init__()
        self.patch_nums = tuple(patch_nums)
        if not self.patch_nums or self.patch_nums[0] < 1 or list(self.patch_nums) != sorted(set(self.patch_nums)):
            raise ChimeraError(f"patch_nums={self.patch_nums}: expected ascending sides, such as (1, 2, 4, 8)")
        self.vocab_size, self.z_channels = vocab_size, z_channels
        self.using_znorm, self.beta = using_znorm, beta
        scales = len(self.patch_nums)
        count = share_quant_resi or scales
        phis = [HalfResidual(z_channels, quant_resi) if abs(quant_resi) > 1e-6 else nn.Identity() for _ in range(count)]
        self.phi_index = phi_of_scales(scales, count)
        self.quant_resi: nn.Module
        if share_quant_resi == 0:
            self.quant_resi = nn.ModuleList(phis)
        else:
            self.quant_resi = Shared(phis[0]) if share_quant_resi == 1 else PartlyShared(phis)
        self.register_buffer("ema_vocab_hit_SV", torch.zeros(scales, vocab_size))
        self.embedding = nn.Embedding(vocab_size, z_channels)

    @property
    def length(self) -> int:
        """Tokens of an image, L."""
        return sum(side**2 for side in self.patch_nums)

    def phi(self, scale: int) -> nn.Module:
        """The convolution of a scale."""
        if isinstance(self.quant_resi, Shared):
            return self.quant_resi.qresi
        phis = self.quant_resi.qresi_ls if isinstance(self.quant_resi, PartlyShared) else self.quant_resi
        return phis[self.phi_index[scale]]  # type: ignore[index]

    def forward(self, f: Tensor) -> Tensor:
        """Greedy tokens (B, L), int64, of features (B, Cvae, h, h); no gradient. Raises ChimeraError for a shape."""
        return self.greedy(f)[0]

    @torch.no_grad()
    def greedy(self, f: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) and the reconstruction after each scale (S, B, Cvae, h, h), algorithm 1."""
        self._check_features(f)
        rest = f.float()
        so_far = torch.zeros_like(rest)
        tokens, partial = [], []
        for scale, side in enumerate(self.patch_nums):
            ids = self.nearest(self.shrink(rest, side).flatten(2).transpose(1, 2))  # (B, side^2)
            part = self.contribution(scale, self.embedding(ids))
            so_far, rest = so_far + part, rest - part
            tokens.append(ids)
            partial.append(so_far)
        return torch.cat(tokens, dim=1), torch.stack(partial)

    def nearest(self, z: Tensor) -> Tensor:
        """The nearest entry's number (...) for each vector of z (..., Cvae); in float32 also where autocast is on."""
        rows, codes = z.reshape(-1, self.z_channels).float(), self.embedding.weight.float()
        with torch.autocast(z.device.type, enabled=False):
            if self.using_znorm:
                found = (F.normalize(rows, dim=-1) @ F.normalize(codes, dim=-1).T).argmax(dim=1)
            else:
                # |z - e|^2, with the products in one matrix multiplication
                squares = rows.square().sum(dim=1, keepdim=True) + codes.square().sum(dim=1)
                found = torch.addmm(squares, rows, codes.T, alpha=-2).argmin(dim=1)
        return found.view(z.shape[:-1])

    def shrink(self, f: Tensor, side: int) -> Tensor:
        """f (B, Cvae, h, h) averaged over areas to (B, Cvae, side, side); the full side is left as it is."""
        return f if side == self.patch_nums[-1] else F.interpolate(f, size=(side, side), mode="area")

    def contribution(self, scale: int, z: Tensor) -> Tensor:
        """phi_k(upsample(z_k)), (B, Cvae, h, h), for the vectors z (B, side^2, Cvae) of a scale.

        z need not be entries of the codebook: differentiable, linear in z up to phi's bias. In the codebook's
        precision also where autocast is on: rounded parts would lead to other tokens.
        """
        side, full = self.patch_nums[scale], self.patch_nums[-1]
        maps = z.to(self.embedding.weight.dtype).transpose(1, 2).reshape(-1, self.z_channels, side, side)
        if side != full:
            maps = F.interpolate(maps, size=(full, full), mode="bicubic")
        with torch.autocast(z.device.type, enabled=False):
            return self.phi(scale)(maps)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, L, ...) as one tensor (B, side^2, ...) a scale. Raises ChimeraError for another L."""
        if tokens.ndim < 2 or tokens.shape[1] != self.length:
            raise ChimeraError(
                f"tokens of shape {tuple(tokens.shape)}: expected (B, {self.length}), the scales {self.patch_nums} "
                "behind one another"
            )
        return list(tokens.split([side**2 for side in self.patch_nums], dim=1))

    def embed_per_scale(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) to the reconstruction after each scale, (S, B, Cvae, h, h), algorithm 2."""
        parts = [self.contribution(scale, self.embedding(ids)) for scale, ids in enumerate(self.split(tokens))]
        return torch.stack(parts).cumsum(dim=0)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) to f_Z (B, Cvae, h, h). Raises ChimeraError for another L."""
        return self.embed_per_scale(tokens)[-1]

    def next_input(self, scale: int, so_far: Tensor) -> Tensor:
        """What the transformer reads for scale ``scale + 1``: the reconstruction, shrunk, (B, side^2, Cvae)."""
        side = self.patch_nums[scale + 1]
        # area of the full side is the identity, so `shrink` may leave it out
        return self.shrink(so_far, side).flatten(2).transpose(1, 2)

    def var_input(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L) to the transformer's teacher-forced input (B, L - patch_nums[0]^2, Cvae)."""
        partial = self.embed_per_scale(tokens)
        inputs = [self.next_input(scale, partial[scale]) for scale in range(len(self.patch_nums) - 1)]
        return torch.cat(inputs, dim=1) if inputs else partial.new_zeros(len(tokens), 0, self.z_channels)

    def straight_through(self, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: f_Z with f's gradient, tokens, and the loss of the codebook and of commitment.

        The loss is the mean over scales of beta |sg(f_k) - f|^2 + |f_k - sg(f)|^2, f_k the reconstruction after
        scale k, sg stopping the gradient.
        """
        f = f.float()
        tokens, _ = self.greedy(f)
        partial = self.embed_per_scale(tokens)  # again, with the gradient of the codebook and of phi
        losses = [self.beta * F.mse_loss(one.detach(), f) + F.mse_loss(one, f.detach()) for one in partial]
        return f + (partial[-1] - f).detach(), tokens, torch.stack(losses).mean()

    def _check_features(self, f: Tensor) -> None:
        expected = (self.z_channels, self.patch_nums[-1], self.patch_nums[-1])
        if f.ndim != 4 or tuple(f.shape[1:]) != expected:
            raise ChimeraError(
                f"features of shape {tuple(f.shape)}: expected (B, {', '.join(map(str, expected))}); an image's side "
                f"has to be {self.patch_nums[-1]} times the encoder's factor"
            )
