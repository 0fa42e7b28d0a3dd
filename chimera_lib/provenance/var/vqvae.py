"""VAR's image tokenizer: encoder, multi-scale quantizer, decoder (Tian et al. 2024, arXiv 2404.02905, section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from chimera_lib.errors import BadImage
from chimera_lib.provenance.var.autoencoder import Decoder, Encoder
from chimera_lib.provenance.var.quantizer import MultiScaleQuantizer

if TYPE_CHECKING:
    from collections.abc import Sequence

PATCH_NUMS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)  # of the public models for 256 px


class VQVAE(nn.Module):
    """Images to tokens and back; its keys are those of ``vae_ch160v4096z32.pth``.

    Images at its methods are floats (B, 3, H, W) in [0, 1]; ``encoder`` and ``decoder`` themselves work in [-1, 1].
    Whatever comes in is converted to the precision of the weights, in which the results are.
    ``quantize`` is a module: call it for the greedy tokens of features, ``vae.quantize(vae.encode(images))``.

    Args:
        vocab_size: entries of the codebook.
        z_channels: channels of the features.
        ch: channels of the first level.
        ch_mult: channels of each level as multiples of ``ch``; each further level halves the side.
        num_res_blocks: residual blocks a level (the decoder has one more).
        v_patch_nums: sides of the token maps, ascending; the last is the side of the features.
        quant_conv_ks: odd kernel size of the convolutions before and after the quantizer.
        quant_resi, share_quant_resi, using_znorm, beta: of `MultiScaleQuantizer`.
        using_sa, using_mid_sa, groups, dropout: of `Encoder` and `Decoder`.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        z_channels: int = 32,
        ch: int = 160,
        *,
        ch_mult: Sequence[int] = (1, 1, 2, 2, 4),
        num_res_blocks: int = 2,
        v_patch_nums: Sequence[int] = PATCH_NUMS,
        quant_conv_ks: int = 3,
        quant_resi: float = 0.5,
        share_quant_resi: int = 4,
        using_znorm: bool = False,
        beta: float = 0.25,
        using_sa: bool = True,
        using_mid_sa: bool = True,
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.downsample = 2 ** (len(ch_mult) - 1)  # pixels of a side to one position
        self.patch_nums = tuple(v_patch_nums)
        architecture: dict[str, Any] = {"ch": ch, "ch_mult": ch_mult, "num_res_blocks": num_res_blocks}
        architecture |= {"z_channels": z_channels, "using_sa": using_sa, "using_mid_sa": using_mid_sa}
        architecture |= {"groups": groups, "dropout": dropout}
        self.encoder, self.decoder = Encoder(**architecture), Decoder(**architecture)
        self.quantize = MultiScaleQuantizer(
            vocab_size,
            z_channels,
            v_patch_nums,
            using_znorm=using_znorm,
            beta=beta,
            quant_resi=quant_resi,
            share_quant_resi=share_quant_resi,
        )
        self.quant_conv = nn.Conv2d(z_channels, z_channels, quant_conv_ks, padding=quant_conv_ks // 2)
        self.post_quant_conv = nn.Conv2d(z_channels, z_channels, quant_conv_ks, padding=quant_conv_ks // 2)

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the tokens stand for."""
        return self.patch_nums[-1] * self.downsample

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to features f (B, Cvae, H / downsample, W / downsample), before quantising.

        Raises BadImage for another shape, integers, values beyond [0, 1] or not finite, or a side that
        ``downsample`` does not divide. Any size passes that it divides; only ``quantize`` asks for ``image_size``.
        """
        self._check_images(images)
        return self.quant_conv(self.encoder((images * 2 - 1).to(self.quant_conv.weight.dtype)))

    def embed(self, indices: Tensor) -> Tensor:
        """Tokens (B, L) to f_Z (B, Cvae, h, h). Raises ChimeraError for another L."""
        return self.quantize.embed(indices)

    def decode(self, f: Tensor, *, clamp: bool = True) -> Tensor:
        """Features (B, Cvae, h, w) to images (B, 3, H, W), in [0, 1] unless ``clamp`` is false."""
        images = self.decoder(self.post_quant_conv(f.to(self.post_quant_conv.weight.dtype)))  # in [-1, 1]
        return ((images.clamp(-1, 1) if clamp else images) + 1) / 2

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: images to unclamped reconstructions, tokens, and the quantizer's loss."""
        f_z, tokens, loss = self.quantize.straight_through(self.encode(images))
        return self.decode(f_z, clamp=False), tokens, loss

    def _check_images(self, images: Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] % self.downsample or shape[3] % self.downsample:
            raise BadImage(
                f"images of shape {shape}: expected (B, 3, H, W), H and W multiples of {self.downsample}; crop them"
            )
        if not images.is_floating_point():
            raise BadImage(f"images of type {images.dtype}: expected floats in [0, 1]; divide uint8 by 255")
        low, high = torch.aminmax(images.detach())
        if images.numel() and not (low >= 0 and high <= 1):  # also where they are NaN
            raise BadImage(f"images with values from {low:g} to {high:g}: expected 0 to 1")
