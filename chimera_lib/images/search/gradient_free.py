"""No gradient at all: an evolution strategy to the boundary, measured single steps across it.

The third item of the sources' future work: "basin-hopping or genetic algorithms might find pockets that gradient
descent misses". What evolves is a smooth pattern added to the start image: ``GRID`` x ``GRID`` cosines (the lowest of
the two-dimensional discrete cosine transform) in each of three colours, so a vector of 48 amplitudes in levels, and
the sum is rounded to 8 bits under a fixed dither. The optimizer is CMA-ES (Hansen and Ostermeier 2001), as the package
``cma`` by its author does it; it minimises the top-two gap.

Evolution alone goes no further than the rounding: one sub-pixel rounded otherwise changes the gap by a thousandth of a
logit, a thousand times what the backends differ by, and no smooth pattern controls single ones. So once the gap is
that of a few single steps, the last digits are left to ``lattice.close``, which measures steps and needs no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.images.search.lattice import CLOSE_ROUNDS, NEAR, apply, close, random_steps
from chimera_lib.images.search.protocol import Asks, Budget, BudgetSpent, Outcome, Probe, gaps
from chimera_lib.images.search.shortlist import Shortlist

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

GRID = 4  # cosines in each direction
SIGMA = 2.0  # levels: the first standard deviation of an amplitude
POPULATION = 16  # images in a generation
MEASURED = 16  # single steps evaluated at the start, to know how much one does to the gap


def search(model: nn.Module, image: np.ndarray, oracle: Asks, budget: Budget, seed: int) -> Outcome:
    """Evolve ``image``, uint8 (H, W, 3), to the boundary and close the gap, until the backends disagree."""
    probe = Probe(model, oracle, budget)
    shortlist = Shortlist(probe)
    rng = np.random.default_rng(seed)
    try:
        near = NEAR * typical_step(probe, image, rng)
        while probe.outcome.chimera is None:
            for point in evolved(probe, shortlist, image, near, rng):
                cross(probe, point, image, rng)
                if probe.outcome.chimera is not None:
                    break
    except BudgetSpent:
        pass
    shortlist.finish()
    return probe.outcome


def typical_step(probe: Probe, image: np.ndarray, rng: np.random.Generator) -> float:
    """The median change of the top-two gap, in logits, by one step of a random sub-pixel."""
    where, step = random_steps(image, image, rng)
    where, step = where[:MEASURED], step[:MEASURED]
    found = gaps(probe.logits(np.concatenate([image[None], apply(image, where[:, None], step[:, None])])))
    probe.visit(image, found[0])
    return float(np.median(np.abs(found[1:] - found[0])))


def evolved(
    probe: Probe, shortlist: Shortlist, image: np.ndarray, near: float, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Run CMA-ES once; yields the best of each generation, uint8 (H, W, 3), whose gap is below ``near`` logits."""
    import cma

    patterns = cosines(image.shape)
    dither = rng.uniform(-0.5, 0.5, image.shape)
    options = {
        "popsize": POPULATION,
        "randn": lambda *shape: rng.standard_normal(shape),
        "seed": np.nan,  # else it would seed numpy's global generator
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy(np.zeros(len(patterns)), SIGMA, options)
    while not strategy.stop():
        amplitudes = strategy.ask()
        places = image + dither + np.tensordot(np.array(amplitudes), patterns, 1)
        images = np.clip(np.rint(places), 0, 255).astype(np.uint8)
        found = gaps(probe.logits(images))
        best = int(np.argmin(found))
        probe.visit(images[best], found[best])
        if shortlist.offer(images, found):
            return
        if found[best] < near:
            yield images[best]
        strategy.tell(amplitudes, found.tolist())


def cross(probe: Probe, point: np.ndarray, image: np.ndarray, rng: np.random.Generator) -> None:
    """Close the gap of ``point`` in a few rounds of measured single steps."""
    offset = 0.0
    for _ in range(CLOSE_ROUNDS):
        point, offset = close(probe, point, image, offset, rng)
        if probe.outcome.chimera is not None:
            return


def cosines(shape: tuple[int, ...]) -> np.ndarray:
    """The lowest cosine patterns, each in one colour: (3 x GRID x GRID, H, W, 3), of amplitude one."""
    height, width, colours = shape
    order = np.arange(GRID)[:, None]
    down = np.cos(np.pi * order * (np.arange(height) + 0.5) / height)
    across = np.cos(np.pi * order * (np.arange(width) + 0.5) / width)
    grid = np.einsum("ih,jw->ijhw", down, across).reshape(-1, height, width)
    return np.einsum("khw,cd->kchwd", grid, np.eye(colours)).reshape(-1, height, width, colours)
