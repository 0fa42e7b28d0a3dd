"""Weights from which VAR's transformer is trained (public training code, ``init_weights``: only the numbers)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from chimera_lib.provenance.var.transformer import VAR


def initialise(
    model: VAR, *, seed: int, std: float | None = None, head: float = 0.02, modulation: float = 0.5, gate: float = 1e-5
) -> VAR:
    """Fill a transformer's weights in place and return it; the same seed, the same weights.

    Args:
        seed: of a generator of its own, on the model's device.
        std: of linear layers and tables, by default 1 / sqrt(3 C), truncated at two of it.
        head: factor on the head's weights, so that training starts near uniform predictions.
        modulation: factor on the layers of scales and shifts.
        gate: factor on those of the gates: branches start almost closed.
    """
    generator = torch.Generator(device=model.pos_1LC.device).manual_seed(seed)
    width = model.pos_1LC.shape[-1]
    spread = (1 / width / 3) ** 0.5 if std is None else std

    def normal(weight: torch.Tensor) -> None:
        nn.init.trunc_normal_(weight, std=spread, a=-2 * spread, b=2 * spread, generator=generator)

    with torch.no_grad():
        for parameter in (model.pos_start, model.pos_1LC):
            normal(parameter)
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                normal(module.weight)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        model.head.weight.mul_(head)
        before_head: Any = model.head_nm.ada_lin[1]
        before_head.weight.mul_(modulation)
        for block in model.blocks:
            _initialise_block(block, len(model.blocks), modulation, gate, generator)
    return model


def _initialise_block(block: Any, depth: int, modulation: float, gate: float, generator: torch.Generator) -> None:
    # what is added 2 x depth times to one stream keeps its variance
    for layer in (block.attn.proj, block.ffn.fc2):
        layer.weight.div_((2 * depth) ** 0.5)
    width = block.ffn.fc2.out_features
    if block.shared_aln:
        block.ada_gss.normal_(std=width**-0.5, generator=generator)
        block.ada_gss[:, :, :2].mul_(gate)
        block.ada_gss[:, :, 2:].mul_(modulation)
    else:
        gates, others = block.ada_lin[1].weight.split([2 * width, 4 * width])
        gates.mul_(gate)
        others.mul_(modulation)
