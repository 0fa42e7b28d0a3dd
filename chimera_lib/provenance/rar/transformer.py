"""RAR: a transformer that writes the tokens of an image one by one, given its class.

Source: Yu et al., Randomized Autoregressive Visual Generation, 2024 (arXiv 2411.00776), section 3. Names of
parameters are those of the public checkpoints' keys.

The sequence is [cls, condition, token 0, ..., token L-1]. Ids share one table: 0 to V-1 are tokens, V the mask (never
read here), V+1+c the class c, and V+1+C "no class", where C is the number of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar import sampling
from chimera_lib.provenance.rar.blocks import Block, FinalNorm
from chimera_lib.provenance.rar.indices import check

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.configuration import RARConfig

PREFIX = 2  # cls and condition
SPARE_POSITIONS, SPARE_STEPS = 1024, 100  # rows of the published tables beyond the image's length


class RAR(nn.Module):
    """The transformer, for L = image_seq_len tokens out of V = codebook_size and C = condition_num_classes classes."""

    def __init__(self, config: RARConfig) -> None:
        super().__init__()
        self.config = config
        width, length = config.hidden_size, config.image_seq_len
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, length + SPARE_POSITIONS, width))
        self.target_aware_pos_embed = nn.Parameter(torch.zeros(1, length + SPARE_POSITIONS, width))
        self.timesteps_embeddings = nn.Parameter(torch.zeros(1, length + SPARE_STEPS, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.embeddings = nn.Embedding(config.codebook_size + 1 + config.condition_num_classes + 1, width)
        self.adaln_before_head = FinalNorm(config)
        self.lm_head = nn.Linear(width, config.codebook_size)
        self._initialise()

    @property
    def null_label(self) -> int:
        """The label that stands for "no class"."""
        return self.config.condition_num_classes

    @property
    def none_condition_id(self) -> int:
        """The id of "no class" in the table of embeddings."""
        return self.config.codebook_size + 1 + self.null_label

    def conditions(self, labels: torch.Tensor) -> torch.Tensor:
        """The ids (B,) of labels (B,), 0 to C - 1 or `null_label`. Raises ChimeraError for others."""
        if labels.dim() != 1:
            raise ChimeraError(f"labels have the shape {tuple(labels.shape)}; expected (B,)")
        check("labels", labels, self.null_label + 1, f", of which {self.null_label} stands for no class")
        return labels.long() + self.config.codebook_size + 1

    def forward(
        self,
        input_ids: torch.Tensor,
        condition: torch.Tensor,
        orders: torch.Tensor | None = None,
        *,
        return_labels: bool = False,
    ) -> Any:
        """Logits (B, L + 1, V) of tokens (B, L) under condition ids (B,).

        Position i predicts token i from those before it; the last position predicts nothing.

        Args:
            input_ids: tokens, row by row.
            condition: ids of the table, as `conditions` gives them.
            orders: permutations (B, L) in which the tokens are read; row by row where None.
            return_labels: also return the tokens in that order, (B, L): what the logits predict.
        """
        ids = input_ids if orders is None else input_ids.gather(1, orders)
        where, steps = self.positions(orders)
        written = self.embeddings(ids) + where[:, PREFIX : PREFIX + ids.shape[1]]
        given = self.embeddings(condition)[:, None]  # (B, 1, C)
        x = torch.cat([self._prefix(given, where), written], dim=1)  # (B, L + 2, C)
        c = given + steps[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x, c)
        logits = self.head(x[:, 1:], c[:, 1:])
        return (logits, ids) if return_labels else logits

    def positions(self, orders: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What is added at each position: to the embeddings (B or 1, L + 2, C), to the condition (1, L + 2, C).

        Before its token is known, a position learns from the target-aware table which one it has to predict.
        """
        length, device = self.config.image_seq_len, self.pos_embed.device
        if orders is None:
            orders = torch.arange(length, device=device)[None]
        if orders.shape[1] != length:
            raise ChimeraError(f"orders of {orders.shape[1]} positions; expected permutations of {length}")
        own = self.pos_embed[0, PREFIX + orders]  # (B, L, C)
        target = self.target_aware_pos_embed[0, PREFIX + orders]  # (B, L, C)
        nothing = torch.zeros_like(target[:, :1])
        prefix = self.pos_embed[:, :PREFIX].expand(len(orders), -1, -1)
        where = torch.cat([prefix, own], dim=1) + torch.cat([nothing, target, nothing], dim=1)
        return where, self.timesteps_embeddings[:, : length + PREFIX]

    def begin(self, condition: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """The first two positions, cls and condition ids (B,), as embeddings (B, 2, C)."""
        return self._prefix(self.embeddings(condition)[:, None], where)

    def head(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) of the last block's activations (B, T, C) under the condition (B, T, C)."""
        return self.lm_head(self.adaln_before_head(x, c))

    def logits(self, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits (B, L, V): position i is for token i, given the class and the tokens before it.

        Args:
            labels: classes (B,), or `null_label` for the unconditional distribution.
            indices: tokens (B, L), row by row.

        Raises ChimeraError for labels or tokens out of range, or of another length.
        """
        condition, shape = self.conditions(labels), (len(labels), self.config.image_seq_len)
        if tuple(indices.shape) != shape:
            raise ChimeraError(f"tokens have the shape {tuple(indices.shape)}; expected {shape}")
        check("tokens", indices, self.config.codebook_size)
        # The last token predicts nothing, and nothing before it sees it.
        return self(indices[:, :-1], condition)

    def generate(self, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        """Sample tokens (B, L) for labels (B,); the options are those of `sampling.generate`."""
        return sampling.generate(self, labels, **options)

    def _prefix(self, given: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """cls and the condition's embedding (B, 1, C) with what their positions add: (B, 2, C)."""
        return torch.cat([self.cls_token.expand(len(given), -1, -1), given], dim=1) + where[:, :PREFIX]

    def _initialise(self) -> None:
        """Normal with deviation 0.02, as published; biases and modulations begin at zero."""
        modulations = {id(module) for name, module in self.named_modules() if "adaLN_modulation" in name}
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding) and id(module) not in modulations:
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for table in (self.pos_embed, self.target_aware_pos_embed, self.timesteps_embeddings):
            nn.init.trunc_normal_(table, std=0.02)
