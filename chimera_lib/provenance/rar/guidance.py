"""Classifier-free guidance with RAR's schedule: weak for the first tokens, full for the last.

Source: Ho & Salimans, Classifier-Free Diffusion Guidance, 2022; the cosine schedule with a power is that of Gao et al.,
MDTv2, 2023, as Yu et al. 2024 use it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from chimera_lib.provenance.rar.transformer import RAR


def scale(step: int, length: int, cfg: float, cfg_pow: float = 0.0) -> float:
    """s = 1 + (cfg - 1) (1 - cos(pi (step / length)^cfg_pow)) / 2 for the token `step` of `length`, counted from 0.

    A power of 0 means the same `cfg` everywhere. Raises ChimeraError for a negative scale or power.
    """
    if not (math.isfinite(cfg) and cfg >= 0) or not (math.isfinite(cfg_pow) and cfg_pow >= 0):
        raise ChimeraError(f"cfg is {cfg} and cfg_pow {cfg_pow}; expected finite numbers, 0 or more")
    return 1 + (cfg - 1) * (1 - math.cos(math.pi * (step / length) ** cfg_pow)) / 2


def mixed(conditional: torch.Tensor, unconditional: torch.Tensor, scales: torch.Tensor | float) -> torch.Tensor:
    """unconditional + s (conditional - unconditional), for logits of one shape."""
    return unconditional + scales * (conditional - unconditional)


def guided_logits(
    model: RAR, labels: torch.Tensor, indices: torch.Tensor, *, cfg: float, cfg_pow: float = 0.0
) -> torch.Tensor:
    """Teacher-forced logits (B, L, V) of the distribution that guided sampling draws from, before temperature.

    A `cfg` of 0 means no guidance: the conditional logits, as in the published sampler. Raises as `RAR.logits` does.
    """
    length = model.config.image_seq_len
    scales = [scale(step, length, cfg, cfg_pow) for step in range(length)]
    if cfg == 0:
        return model.logits(labels, indices)
    both = torch.cat([labels, torch.full_like(labels, model.null_label)])
    conditional, unconditional = model.logits(both, indices.repeat(2, 1)).chunk(2)
    return mixed(conditional, unconditional, conditional.new_tensor(scales)[:, None])
