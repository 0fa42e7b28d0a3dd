"""The corrected catalyst: embeddings whose gradient is moved into the near-null space of the Hessian on real text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from chimera_lib.errors import ChimeraError, Diverged, UnknownName
from chimera_lib.prion.batches import Batch
from chimera_lib.prion.catalysts import protocol, rho
from chimera_lib.prion.catalysts.published import nearest
from chimera_lib.prion.hessian.parameters import gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from chimera_lib.prion.catalysts.protocol import Catalyst

STEPS = 100
RATE = 2.0  # of a coordinate's size; chosen on seed 0 of neox-0.3m, on the play that is kept for decisions
End = Literal["flat", "sharp"]
ENDS = ("flat", "sharp")


@dataclass(frozen=True)
class Descent:
    """An optimised catalyst.

    Attributes:
        soft: the embeddings and their labels.
        hard: the tokens nearest to the embeddings as input; the labels are those tokens, as a model sees tokens only.
        course: rho before each step, and after the last, shape (steps + 1,).
        snapped: rho of the hard version at those steps where it was asked for, step to rho.
    """

    soft: Batch
    hard: Batch
    course: tuple[float, ...]
    snapped: dict[int, float]


def optimise(
    measure: rho.Rho,
    labels: Tensor,
    start: Tensor,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    end: End = "flat",
    snap_every: int = 0,
    on_step: Callable[[int, float], object] | None = None,
) -> Descent:
    """Minimise rho over embeddings at fixed labels and fixed norms.

    The descent is on log rho^2 = log ||Hg||^2 - log ||g||^2 with g the gradient of the loss on the embeddings. As H
    does not depend on them, its derivative is that of <g, u> with u = 2 (HHg - r^2 g) / ||Hg||^2 held fixed and
    r = ||Hg|| / ||g||: two products and one mixed derivative a step. Adam, its rate on half a cosine to zero. Not the
    Rayleigh quotient g'Hg / g'g, whose minimum is negative curvature.

    Args:
        measure: gives H and the unit of rho.
        labels: token ids, shape (1, T).
        start: embeddings, shape (1, T, d); each vector's norm is kept.
        steps: of Adam.
        rate: Adam's at the start, in units of the root mean square coordinate of `start`.
        end: `flat`, or `sharp` to maximise rho instead, the end that the published search finds.
        snap_every: every so many steps, and at the end, measure the hard version too; 0 for at the end only.
        on_step: told the step and its rho.

    Raises:
        Diverged: rho is not finite; the message says at which step.
        UnknownName: there is no such end.
    """
    if end not in ENDS:
        raise UnknownName("end of the spectrum", end, ENDS)
    if steps < 0:
        raise ChimeraError(f"{steps} steps: expected 0 or more")
    product, model = measure.product, measure.product.model
    weight = protocol.embeddings(model)
    lengths = start.norm(dim=-1, keepdim=True)
    vectors = start.detach().clone().requires_grad_(True)
    size = rate * float(start.square().mean().sqrt())
    adam = torch.optim.Adam([vectors], lr=size)
    course, snapped = [], {}
    for step in range(steps):
        if snap_every and step % snap_every == 0:
            snapped[step] = measure(Batch(nearest(vectors, weight)))
        adam.param_groups[0]["lr"] = size * 0.5 * (1 + math.cos(math.pi * step / steps))
        slope = gradient(model, Batch(labels, vectors.to(weight.dtype)), product.parameters, create_graph=True)
        fixed = slope.detach()
        image = product(fixed)
        square = float(image @ image) / float(fixed @ fixed)
        course.append(math.sqrt(square) / measure.reference)
        if not math.isfinite(course[-1]) or not square > 0:
            raise Diverged(f"rho is {course[-1]} at step {step + 1} of {steps}: use fp32, or a rate below {rate}")
        towards = 2 * (product(image) - square * fixed) / float(image @ image)
        (vectors.grad,) = torch.autograd.grad(slope @ (towards if end == "flat" else -towards), vectors)
        adam.step()
        with torch.no_grad():
            vectors.mul_(lengths / vectors.norm(dim=-1, keepdim=True))
        if on_step:
            on_step(step, course[-1])
    soft, hard = Batch(labels, vectors.detach().to(weight.dtype)), Batch(nearest(vectors, weight))
    snapped[steps] = measure(hard)
    return Descent(soft, hard, (*course, measure(soft)), snapped)


def start(model: nn.Module, tokenizer: object | None, *, length: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random labels (1, T) and embeddings of other random tokens (1, T, d), fp32, each of the embeddings' mean norm."""
    weight, size, source = protocol.embeddings(model), protocol.vocabulary(model, tokenizer), protocol.generator(seed)
    labels = protocol.random_tokens(size, length, source, weight.device)
    vectors = weight[protocol.random_tokens(size, length, source, weight.device)].float()
    return labels, protocol.mean_norm(model) * torch.nn.functional.normalize(vectors, dim=-1)


def eigen_prion(
    model: nn.Module,
    tokenizer: object | None,
    text: Tensor,
    *,
    length: int = 64,
    seed: int = 0,
    steps: int = STEPS,
    rows: int = rho.ROWS,
    end: End = "flat",
    hard: bool = False,
    keep_graph: bool = True,
) -> Catalyst:
    """Make the corrected catalyst: soft embeddings, or with `hard` the tokens nearest to them.

    Args:
        model: a causal language model with eager attention, in evaluation mode.
        tokenizer: gives the number of tokens to draw from.
        text: token ids, shape (N,), of which passages give the Hessian.
        length: positions of the catalyst, and of the passages.
        seed: of the labels, the first embeddings and the passages.
        steps: of optimisation.
        rows: passages that the Hessian is taken on.
        end: `flat`, or `sharp` for a catalyst that goes for the sharpest directions.
        hard: give the tokens, not the embeddings.
        keep_graph: see `HessianProduct`.

    Returns:
        A repeated catalyst; its facts are `rho` of what is shown, `rho_soft` and `rho_hard`, `rho_start`, `rho_fresh`
        (of what is shown, on other passages and in their own unit) and `curvature`, ||Hg|| / ||g|| itself.
    """
    measure = rho.scale(model, tokenizer, text, length=length, rows=rows, seed=seed, keep_graph=keep_graph)
    labels, vectors = start(model, tokenizer, length=length, seed=seed)
    done = optimise(measure, labels, vectors, steps=steps, end=end)
    shown = done.hard if hard else done.soft
    other = rho.scale(model, tokenizer, text, length=length, rows=rows, seed=seed + 1_000_000, keep_graph=keep_graph)
    facts = {
        "rho": done.snapped[steps] if hard else done.course[-1],
        "rho_soft": done.course[-1],
        "rho_hard": done.snapped[steps],
        "rho_start": done.course[0],
        "rho_fresh": other(shown),
        "curvature": measure.curvature(shown),
    }
    return protocol.repeated("eigen_prion_hard" if hard else "eigen_prion", shown, facts)


def snapped(soft: Catalyst, model: nn.Module) -> Catalyst:
    """The hard version of a soft catalyst that is there already: the tokens nearest to its embeddings.

    Args:
        soft: what `eigen_prion` gave.
        model: whose tokens are meant.

    Raises:
        ChimeraError: the catalyst shows tokens, not embeddings.
    """
    vectors = soft.batch(0).embeddings
    if vectors is None:
        raise ChimeraError(f"{soft.name} shows tokens, expected embeddings to take the nearest tokens of")
    weight = protocol.embeddings(model)
    shown = Batch(nearest(vectors.to(weight.device), weight))
    return protocol.repeated("eigen_prion_hard", shown, {**soft.facts, "rho": soft.facts["rho_hard"]})
