"""Tokens that reconstruct given features better than the greedy ones: soft assignment over all scales at once.

Zhao et al., Data Provenance for Image Auto-Regressive Generation (arXiv 2606.28386): greedy quantisation decides
coarse scales without regard to the fine ones. Here each position has V logits, its vector is the expectation of the
codebook under softmax(logits / tau), and Adam lowers 1/2 mean((f_Z - f)^2) while tau falls; then the likeliest entry
is taken. Further calls start from the result and hold ever more of the fine scales fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from chimera_lib.provenance.var.quantizer import MultiScaleQuantizer

START = 0.5  # logit of the token that a position starts from; the others start at 0


@dataclass(frozen=True)
class Assignment:
    """Tokens with what they reconstruct.

    Attributes:
        indices: tokens (B, L).
        f_hat: their reconstruction f_Z (B, Cvae, h, h).
        mse: mean((f - f_Z)^2) of each image, (B,): QuantLoss.
    """

    indices: Tensor
    f_hat: Tensor
    mse: Tensor


def assign(quantizer: MultiScaleQuantizer, f: Tensor, indices: Tensor) -> Assignment:
    """The given tokens (B, L) as an `Assignment` to features f (B, Cvae, h, h)."""
    with torch.no_grad():
        f_hat = quantizer.embed(indices)
        return Assignment(indices, f_hat, (f_hat - f.float()).square().mean(dim=(1, 2, 3)))


def refine(
    quantizer: MultiScaleQuantizer,
    f: Tensor,
    indices: Tensor,
    *,
    free_scales: int | None = None,
    iterations: int = 200,
    lr: float = 0.1,
    tau_start: float = 2.0,
    tau_end: float = 0.5,
    per_image: bool = False,
) -> Assignment:
    """One call: optimise the coarsest ``free_scales`` scales (by default all), the others keep their tokens.

    Args:
        f: features (B, Cvae, h, h).
        indices: tokens (B, L) to start from.
        iterations: steps of Adam.
        lr: its step size.
        tau_start, tau_end: temperature of the first and the last step, geometric between them.
        per_image: divide the loss by an image's size, not the batch's. The published code does the latter, whereby
            Adam's epsilon makes an image's tokens depend, if slightly, on how many share its batch.

    Raises ChimeraError for features or tokens of another shape, and for values out of range.
    """
    scales = len(quantizer.patch_nums)
    free = scales if free_scales is None else free_scales
    if not 1 <= free <= scales or iterations < 1 or min(lr, tau_start, tau_end) <= 0:
        raise ChimeraError(
            f"free_scales={free}, iterations={iterations}, lr={lr}, tau {tau_start} to {tau_end}: expected 1 to "
            f"{scales} free scales, and the others above 0"
        )
    target = f.detach().float()
    codes = quantizer.embedding.weight.detach().float()
    tokens = quantizer.split(indices)
    with torch.no_grad():
        fixed = torch.zeros_like(target)
        for scale in range(free, scales):
            fixed = fixed + quantizer.contribution(scale, codes[tokens[scale]])
    logits = [_start(ids, quantizer.vocab_size) for ids in tokens[:free]]
    optimizer = torch.optim.Adam(logits, lr=lr)
    with torch.enable_grad():
        for step in range(iterations):
            tau = tau_start * (tau_end / tau_start) ** (step / max(iterations - 1, 1))
            f_hat = fixed
            for scale, one in enumerate(logits):
                f_hat = f_hat + quantizer.contribution(scale, (one / tau).softmax(dim=-1) @ codes)
            loss = 0.5 * F.mse_loss(f_hat, target) * (len(target) if per_image else 1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=logits)  # and not the quantizer's weights
            optimizer.step()
    snapped = [one.detach().argmax(dim=-1) for one in logits]
    return assign(quantizer, target, torch.cat([*snapped, *tokens[free:]], dim=1))


def optimise(
    quantizer: MultiScaleQuantizer,
    f: Tensor,
    *,
    calls: int = 6,
    iterations: int = 200,
    lr: float = 0.1,
    tau_start: float = 2.0,
    tau_end: float = 0.5,
    per_image: bool = True,
) -> Assignment:
    """The published schedule: greedy tokens, then `refine` with all scales free, and again with one fewer each call.

    Six calls on ten scales leave 10, 9, ..., 5 of them free; fewer scales than calls end with one. An image whose
    loss a call raises keeps the tokens it had before that call in the result, while the next call goes on from the
    new ones: so the loss is never above the greedy one. Arguments as in `refine`, but that ``per_image`` is on: an
    image's tokens do not depend on its batch. Raises ChimeraError as `refine` does.
    """
    if calls < 1:
        raise ChimeraError(f"calls={calls}: expected at least 1")
    best = now = assign(quantizer, f, quantizer(f))
    for free in range(len(quantizer.patch_nums), max(len(quantizer.patch_nums) - calls, 0), -1):
        now = refine(
            quantizer,
            f,
            now.indices,
            free_scales=free,
            iterations=iterations,
            lr=lr,
            tau_start=tau_start,
            tau_end=tau_end,
            per_image=per_image,
        )
        best = _better(best, now)
    return best


def _start(ids: Tensor, vocabulary: int) -> Tensor:
    """Logits (B, side^2, V) that favour the given tokens (B, side^2), as leaves of the graph."""
    logits = torch.zeros(*ids.shape, vocabulary, device=ids.device)
    return logits.scatter_(2, ids.unsqueeze(-1), START).requires_grad_()


def _better(one: Assignment, other: Assignment) -> Assignment:
    """Image by image the assignment of lower loss."""
    wins = other.mse < one.mse  # (B,)
    return Assignment(
        torch.where(wins[:, None], other.indices, one.indices),
        torch.where(wins[:, None, None, None], other.f_hat, one.f_hat),
        torch.where(wins, other.mse, one.mse),
    )
