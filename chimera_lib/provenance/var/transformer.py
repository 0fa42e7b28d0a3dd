"""VAR: a transformer that predicts an image's tokens scale by scale (Tian et al. 2024, arXiv 2404.02905)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance import truncation
from chimera_lib.provenance.var.blocks import AdaptiveNorm, Block, Cache, SharedAdaLin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chimera_lib.provenance.var.vqvae import VQVAE


class VAR(nn.Module):
    """p(tokens | class) = prod_k p(tokens of scale k | coarser scales, class); all tokens of a scale at once (eq. 3).

    Its keys are those of ``var_d16.pth`` to ``var_d30.pth``. The tokenizer is used, not owned: its weights are not
    among the state dict's, and ``to`` does not move it.

    Args:
        vae_local: the tokenizer; gives the codebook, the scales and the transformer's inputs.
        num_classes: class ``num_classes`` is the null class, which stands for no condition.
        depth: blocks.
        embed_dim: width, by default 64 x depth.
        num_heads: by default the depth.
        mlp_ratio: width of the feed-forward layers over ``embed_dim``.
        attn_l2_norm: queries and keys of unit length (all public models).
        shared_aln: one modulation layer for all blocks (fewer parameters; the public 512 px model).
        cond_drop_rate: share of labels that ``forward`` replaces by the null class, in training mode only.
        patch_nums: if given, has to be the tokenizer's.
        norm_eps: of every layer normalisation.
        drop_rate, attn_drop_rate, drop_path_rate: dropout of layers, of attention, of whole branches (growing
            linearly with depth) while training.

    Raises ChimeraError for a width that the heads do not divide, or other scales than the tokenizer's.
    """

    lvl_1L: Tensor  # noqa: N815  (the checkpoints' key)
    attn_bias_for_masking: Tensor

    def __init__(
        self,
        vae_local: VQVAE,
        num_classes: int = 1000,
        depth: int = 16,
        embed_dim: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float = 4.0,
        *,
        attn_l2_norm: bool = True,
        shared_aln: bool = False,
        cond_drop_rate: float = 0.1,
        patch_nums: Sequence[int] | None = None,
        norm_eps: float = 1e-6,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        width, heads = embed_dim or 64 * depth, num_heads or depth
        shape = (width, heads, round(width * mlp_ratio))
        common: dict[str, Any] = {"l2_norm": attn_l2_norm, "shared_aln": shared_aln, "eps": norm_eps}
        common |= {"drop": drop_rate, "attn_drop": attn_drop_rate}
        self.patch_nums = tuple(vae_local.patch_nums)
        if width % heads:
            raise ChimeraError(f"embed_dim={width}: expected a multiple of num_heads={heads}")
        if patch_nums is not None and tuple(patch_nums) != self.patch_nums:
            raise ChimeraError(f"patch_nums={tuple(patch_nums)}: the tokenizer has {self.patch_nums}; leave them out")
        self.vae_proxy = (vae_local,)  # a tuple keeps the tokenizer's weights out of this module's
        self.num_classes, self.cond_drop_rate = num_classes, cond_drop_rate
        self.vocab_size = vae_local.quantize.vocab_size
        first, length = self.patch_nums[0] ** 2, vae_local.quantize.length
        self.word_embed = nn.Linear(vae_local.quantize.z_channels, width)
        self.class_emb = nn.Embedding(num_classes + 1, width)
        self.pos_start = nn.Parameter(torch.empty(1, first, width))
        self.pos_1LC = nn.Parameter(torch.empty(1, length, width))
        self.lvl_embed = nn.Embedding(len(self.patch_nums), width)
        for table in (self.class_emb.weight, self.pos_start, self.pos_1LC, self.lvl_embed.weight):
            nn.init.trunc_normal_(table, std=(1 / width / 3) ** 0.5)
        self.shared_ada_lin = nn.Sequential(nn.SiLU(), SharedAdaLin(width, 6 * width)) if shared_aln else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(*shape, drop_path=rate, **common)
            for rate in torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        )
        self._register_levels()
        self.head_nm = AdaptiveNorm(width, norm_eps)
        self.head = nn.Linear(width, self.vocab_size)

    def _register_levels(self) -> None:
        """The buffers: each token's scale, and the mask by which it sees its own scale and the coarser ones."""
        levels = torch.cat([torch.full((side**2,), scale) for scale, side in enumerate(self.patch_nums)])
        self.register_buffer("lvl_1L", levels.unsqueeze(0))  # (1, L)
        hidden = torch.where(levels[:, None] >= levels, 0.0, -torch.inf)
        self.register_buffer("attn_bias_for_masking", hidden[None, None])  # (1, 1, L, L)

    @property
    def tokenizer(self) -> VQVAE:
        """The tokenizer whose tokens this model predicts."""
        return self.vae_proxy[0]

    def forward(self, labels: Tensor, var_input: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Teacher-forced logits (B, L, V), float32, for training.

        Args:
            labels: classes (B,), ``num_classes`` for none.
            var_input: ``tokenizer.quantize.var_input(tokens)``, (B, L - patch_nums[0]^2, Cvae).
            generator: draws which labels are dropped in training mode (in evaluation mode none is; the reference
                drops them there as well, which makes its likelihoods random).
        """
        if self.training and self.cond_drop_rate > 0:
            chances = torch.rand(labels.shape, generator=generator, device=labels.device)
            labels = torch.where(chances < self.cond_drop_rate, self.num_classes, labels)
        return self._teacher_forced(labels, var_input)

    def logits(self, labels: Tensor, indices: Tensor) -> Tensor:
        """Logits (B, L, V) of every token given the coarser scales and the class; no label is dropped.

        Args:
            labels: classes (B,), ``num_classes`` for none.
            indices: tokens (B, L).

        Raises ChimeraError for labels or tokens of another shape or out of range.
        """
        self._check(labels, indices)
        return self._teacher_forced(labels, self.tokenizer.quantize.var_input(indices))

    def guide(self, conditional: Tensor, unconditional: Tensor, cfg: float) -> Tensor:
        """Classifier-free guidance: (1 + t) conditional - t unconditional, t = cfg s / (S - 1) at scale s.

        Both are logits (B, L, V) of all positions, as `logits` returns them; so is the result.
        """
        t = cfg * self.lvl_1L.view(1, -1, 1) / max(len(self.patch_nums) - 1, 1)
        return (1 + t) * conditional - t * unconditional

    @torch.no_grad()
    def generate(
        self,
        labels: Tensor,
        *,
        cfg: float = 1.5,
        top_k: int = 900,
        top_p: float = 0.96,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw tokens (B, L) for classes (B,); ``tokenizer.decode(tokenizer.embed(tokens))`` are the images.

        The defaults are those with which the public models are evaluated; see `truncation.truncate` for top_k and
        top_p. Put the model into evaluation mode first. Raises ChimeraError for values out of range.
        """
        truncation.check(top_k, top_p, temperature)
        self._check(labels)

        def choose(_: int, logits: Tensor) -> Tensor:
            return truncation.draw(logits, top_k=top_k, top_p=top_p, temperature=temperature, generator=generator)

        return self.roll_out(labels, choose, cfg=cfg)

    @torch.no_grad()
    def roll_out(self, labels: Tensor, choose: Callable[[int, Tensor], Tensor], *, cfg: float = 0.0) -> Tensor:
        """Go from scale to scale with cached keys and values; return the tokens (B, L).

        Args:
            labels: classes (B,).
            choose: from a scale's number and its guided logits (B, side^2, V) to its tokens (B, side^2).
            cfg: guidance at the last scale; it grows linearly from 0 at the first. At 0 nothing is guided.
        """
        quantizer = self.tokenizer.quantize
        batch, scales = len(labels), len(self.patch_nums)
        everyone = torch.cat((labels, torch.full_like(labels, self.num_classes))) if cfg else labels
        condition = self.class_emb(everyone)  # (B or 2 B, C)
        places = self._places().split([side**2 for side in self.patch_nums], dim=1)
        caches = [Cache() for _ in self.blocks]
        x = self._start(condition)
        tokens: list[Tensor] = []
        so_far: Tensor | None = None
        for scale in range(scales):
            logits = self._predict(x + places[scale], condition, None, caches)
            if cfg:
                t = cfg * scale / max(scales - 1, 1)
                logits = (1 + t) * logits[:batch] - t * logits[batch:]
            tokens.append(choose(scale, logits))
            part = quantizer.contribution(scale, quantizer.embedding(tokens[-1]))
            so_far = part if so_far is None else so_far + part
            if scale < scales - 1:
                words = self._words(quantizer.next_input(scale, so_far))
                x = torch.cat((words, words)) if cfg else words
        return torch.cat(tokens, dim=1)

    def _teacher_forced(self, labels: Tensor, var_input: Tensor) -> Tensor:
        condition = self.class_emb(labels)  # (B, C)
        x = torch.cat((self._start(condition), self._words(var_input)), dim=1) + self._places()  # (B, L, C)
        return self._predict(x, condition, self.attn_bias_for_masking)

    def _start(self, condition: Tensor) -> Tensor:
        """What stands in for the input of the first scale: the class and learnt vectors, (B, first^2, C)."""
        return condition.unsqueeze(1) + self.pos_start

    def _words(self, var_input: Tensor) -> Tensor:
        """Shrunk reconstructions (B, T, Cvae) in the width and precision of this model."""
        return self.word_embed(var_input.to(self.word_embed.weight.dtype))

    def _places(self) -> Tensor:
        """Position and scale of every token, (1, L, C)."""
        return self.lvl_embed(self.lvl_1L) + self.pos_1LC

    def _predict(
        self, x: Tensor, condition: Tensor, mask: Tensor | None, caches: Sequence[Cache] | None = None
    ) -> Tensor:
        """Inputs (B, T, C) and condition (B, C) to logits (B, T, V) in float32."""
        modulation = self.shared_ada_lin(condition)
        for i, block in enumerate(self.blocks):
            x = block(x, modulation, mask, caches[i] if caches else None)
        return self.head(self.head_nm(x, condition)).float()

    def _check(self, labels: Tensor, indices: Tensor | None = None) -> None:
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise ChimeraError(f"labels of shape {tuple(labels.shape)} and type {labels.dtype}: expected (B,), int64")
        if len(labels) and not (labels.min() >= 0 and labels.max() <= self.num_classes):
            raise ChimeraError(
                f"labels from {labels.min()} to {labels.max()}: expected 0 to {self.num_classes - 1}, "
                f"or {self.num_classes} for none"
            )
        if indices is None:
            return
        expected = (len(labels), self.lvl_1L.shape[1])
        if tuple(indices.shape) != expected or indices.dtype != torch.int64:
            raise ChimeraError(f"tokens of shape {tuple(indices.shape)}, {indices.dtype}: expected {expected}, int64")
        if indices.numel() and not (indices.min() >= 0 and indices.max() < self.vocab_size):
            raise ChimeraError(f"tokens from {indices.min()} to {indices.max()}: expected 0 to {self.vocab_size - 1}")
