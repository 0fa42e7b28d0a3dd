"""MaskGitVQGAN: images to tokens and back, the tokenizer that all sizes of RAR share.

Source: Chang et al., MaskGIT: Masked Generative Image Transformer, 2022; the published weights are
``maskgit-vqgan-imagenet-f16-256`` of ``fun-research/TiTok``.
"""

from __future__ import annotations

import torch
from torch import nn

from chimera_lib.errors import BadImage
from chimera_lib.provenance.rar.configuration import MaskGitVQGANConfig
from chimera_lib.provenance.rar.convolutions import Decoder, Encoder
from chimera_lib.provenance.rar.quantizer import VectorQuantizer


class MaskGitVQGAN(nn.Module):
    """Encoder, codebook and decoder. `quantize(f)` gives indices (B, h * w), one a position, row by row.

    Its own range is [0, 1], as that of the images it is given.
    """

    def __init__(self, config: MaskGitVQGANConfig | None = None) -> None:
        """A new one of the given shape; of the published one where None."""
        super().__init__()
        self.config = config = config or MaskGitVQGANConfig()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = VectorQuantizer(config.codebook_size, config.z_channels)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Features before quantisation: (B, 3, H, W) in [0, 1] -> (B, z, H / stride, W / stride).

        Raises BadImage for another shape, sides that are no multiple of the stride, and values outside [0, 1].
        """
        self._check(images)
        return self.encoder(images.to(self.encoder.conv_in.weight.dtype))

    def embed(self, indices: torch.Tensor) -> torch.Tensor:
        """The codes f_Z (B, z, h, w) of indices (B, h * w) or (B, h, w). Raises as `VectorQuantizer.embed` does."""
        return self.quantize.embed(indices)

    def decode(self, f: torch.Tensor, *, clamp: bool = True) -> torch.Tensor:
        """Images (B, 3, H, W), float32, of features (B, z, h, w).

        They are cut to [0, 1] unless `clamp` is False (a loss then has a gradient outside that range too).
        """
        images = self.decoder(f.to(self.decoder.conv_in.weight.dtype)).float()
        return images.clamp(0, 1) if clamp else images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images as they come back through the codebook: (B, 3, H, W) -> (B, 3, H, W), both in [0, 1]."""
        f = self.encode(images)
        grid = self.quantize(f).unflatten(1, f.shape[2:])  # (B, h, w)
        return self.decode(self.embed(grid))

    def _check(self, images: torch.Tensor) -> None:
        stride, channels = self.config.stride, self.config.num_channels
        shape = tuple(images.shape)
        if not images.is_floating_point() or len(shape) != 4 or shape[1] != channels or 0 in shape:
            raise BadImage(f"images are {images.dtype} of shape {shape}; expected floats (B, {channels}, H, W)")
        if shape[2] % stride or shape[3] % stride:
            raise BadImage(f"images of {shape[2]} x {shape[3]} pixels; expected multiples of {stride}: crop or resize")
        low, high = (float(value) for value in images.detach().aminmax())
        if not (low >= 0 and high <= 1):  # so written that not-a-number is caught as well
            raise BadImage(f"images hold values from {low:.4g} to {high:.4g}; expected [0, 1]: scale or clamp them")
