"""Several boundaries at once: the start image walks to more than one of them, and the walks that get nearest go on.

The second item of the sources' future work: "optimize for boundaries between multiple class pairs simultaneously".
From one start, a member for each of the next classes lifts that class against whichever leads, and one more heads
for a triple point, where the first three classes are equal. All step together, their gradients in one batch; every
``ROUNDS`` rounds the half that came nearest to a gap of zero go on (successive halving: Jamieson and Talwalkar 2016).

A member is an 8-bit image. Its step is a real-valued one, through the rounding (straight-through estimator: Bengio et
al. 2013), and Polyak's in length: its linear effect cancels the gap. Sub-pixels whose single step would change the gap
by much more than it is are held back, else rounding the strong ones would drown the last digits. The step is then
rounded with several dithers, each right on average, and the best of these points is the member's next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chimera_lib.images.search.lattice import NOISE
from chimera_lib.images.search.protocol import (
    GRADIENT_COST,
    Asks,
    Budget,
    BudgetSpent,
    Outcome,
    Probe,
    as_input,
    gaps,
)
from chimera_lib.images.search.shortlist import Shortlist

if TYPE_CHECKING:
    from torch import nn

RIVALS = 3  # classes lifted, one member each, beside the one for the triple point
ROUNDS = 8  # after which half of the members go on
DITHERS = 8  # roundings of a step that are evaluated
SOFT = 1.0  # gaps; single steps of more effect than that are held back
LARGEST = 2.0  # levels a sub-pixel may move in a round
PATIENCE = 6  # rounds in which no member improves, after which a new ensemble starts


@dataclass
class Member:
    """One walk: its point, uint8 (H, W, 3), and the class that it lifts (None: it heads for the triple point)."""

    point: np.ndarray
    lifted: int | None
    wanted: float = np.inf  # size of the gap that it closes, in logits
    smallest: float = np.inf  # top-two gap met
    step: np.ndarray | None = None  # levels, real-valued (H, W, 3); None where the point has moved on


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Walk from ``image``, uint8 (H, W, 3), to the boundaries of several classes until the backends disagree."""
    probe = Probe(model, oracle, budget)
    shortlist = Shortlist(probe)
    rng = np.random.default_rng(seed)
    try:
        while probe.outcome.chimera is None:
            walk(probe, shortlist, ensemble(probe, image), rng)
    except BudgetSpent:
        pass
    shortlist.finish()
    return probe.outcome


def ensemble(probe: Probe, image: np.ndarray) -> list[Member]:
    """The members, all at ``image``: one for each of the classes ranked next, and one for the triple point."""
    logits = probe.logits(image[None])
    order = np.argsort(-logits[0], kind="stable")
    probe.visit(image, gaps(logits)[0])
    lifted: list[int | None] = [int(c) for c in order[1 : 1 + RIVALS]]
    if len(order) > 2:
        lifted.append(None)
    return [Member(image, one) for one in lifted]


def walk(probe: Probe, shortlist: Shortlist, members: list[Member], rng: np.random.Generator) -> None:
    """Rounds of all members, ever fewer of them, until a chimera or until none of them improves."""
    smallest, turn, idle = np.inf, 0, 0
    while idle < PATIENCE:
        turn += 1
        aim(probe, [m for m in members if m.step is None])
        points = np.concatenate([dithered(m.point, m.step, rng) for m in members if m.step is not None])
        logits = probe.logits(points)
        found = gaps(logits)
        if shortlist.offer(points, found):
            return
        for i, member in enumerate(members):
            part = slice(i * DITHERS, (i + 1) * DITHERS)
            advance(member, points[part], logits[part])
        nearest = int(np.argmin(found))
        probe.visit(points[nearest], found[nearest])
        wanted = min(member.wanted for member in members)
        smallest, idle = (wanted, 0) if wanted < smallest else (smallest, idle + 1)
        if turn % ROUNDS == 0 and len(members) > 1:
            members = sorted(members, key=lambda m: m.smallest)[: len(members) // 2]


def advance(member: Member, points: np.ndarray, logits: np.ndarray) -> None:
    """Move to the best new one of ``points`` (N, H, W, 3) with less of the gap wanted, or no more than the noise."""
    wanted = np.abs([gap_wanted(torch.from_numpy(row), member.lifted).item() for row in logits])
    member.smallest = min(member.smallest, float(gaps(logits).min()))
    wanted[(points == member.point).all(axis=(1, 2, 3))] = np.inf
    best = int(np.argmin(wanted))
    if wanted[best] >= max(member.wanted, NOISE):
        return
    member.point, member.wanted, member.step = points[best], float(wanted[best]), None


def aim(probe: Probe, members: list[Member]) -> None:
    """Give each of ``members`` its step, from one batched gradient."""
    if not members:
        return
    probe.spend(GRADIENT_COST * len(members))
    x = as_input(np.stack([m.point for m in members])).requires_grad_()
    wanted = torch.stack([gap_wanted(row, m.lifted) for row, m in zip(probe.model(x), members, strict=True)])
    (gradient,) = torch.autograd.grad(wanted.sum(), x)
    effects = gradient.permute(0, 2, 3, 1).double().numpy() / 255
    for member, gap, effect in zip(members, wanted.tolist(), effects, strict=True):
        member.wanted = min(member.wanted, abs(gap))  # the first time; later the point was chosen for it
        member.step = polyak(effect, np.copysign(max(abs(gap), NOISE), gap))


def gap_wanted(logits: torch.Tensor, lifted: int | None) -> torch.Tensor:
    """The gap of logits (classes,) that a member closes: leader against its class, or first against third."""
    if lifted is None:
        three = logits.topk(3).values
        return three[0] - three[2]
    rest = torch.cat([logits[:lifted], logits[lifted + 1 :]])
    return rest.max() - logits[lifted]


def polyak(effect: np.ndarray, gap: float) -> np.ndarray:
    """The step, levels (H, W, 3), whose linear effect is ``-gap`` logits, the strong sub-pixels held back."""
    held = effect * np.exp(-((effect / max(SOFT * abs(gap), float(np.quantile(np.abs(effect), 0.01)), 1e-30)) ** 2))
    step = -gap * held / max(float((held * effect).sum()), 1e-30)
    return np.clip(step, -LARGEST, LARGEST)


def dithered(point: np.ndarray, step: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``DITHERS`` ways to round ``point + step`` to 8 bits, uint8 (DITHERS, H, W, 3)."""
    place = point + step + rng.uniform(-0.5, 0.5, (DITHERS, *point.shape))
    return np.clip(np.rint(place), 0, 255).astype(np.uint8)
