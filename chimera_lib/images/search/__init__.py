"""The search strategies by name; each is a function ``(model, image, oracle, budget, seed) -> Outcome``."""

from __future__ import annotations

from collections.abc import Callable

from chimera_lib.errors import UnknownName
from chimera_lib.images.search import (
    adaptive_noise,
    boundary,
    dense_multiscale,
    ensemble_boundary,
    exploit_known,
    gradient_free,
    hardware_in_the_loop,
    lattice,
    multiway,
    random_noise,
    replication,
    robust,
)
from chimera_lib.images.search.protocol import Outcome

Strategy = Callable[..., Outcome]

STRATEGIES: dict[str, Strategy] = {
    "random_noise": random_noise.search,
    "boundary_as_published": boundary.as_published,
    "boundary_straight_through": boundary.straight_through,
    "dense_multiscale": dense_multiscale.search,
    "uncertainty_replication": replication.search,
    "adaptive_noise": adaptive_noise.search,
    "ensemble_boundary": ensemble_boundary.search,
    "gradient_free": gradient_free.search,
    "hardware_in_the_loop": hardware_in_the_loop.search,
    "lattice": lattice.search,
    "exploit_known": exploit_known.search,
}

# The lattice walk after something narrower than any conflict.
OBJECTIVES: dict[str, Strategy] = {
    "lattice_targeted": multiway.targeted,
    "lattice_kway": multiway.kway,
    "lattice_robust": robust.search,
    "lattice_stealthy": multiway.stealthy,
}


def strategy(name: str) -> Strategy:
    """The strategy called ``name``; raises UnknownName with those there are."""
    known = STRATEGIES | OBJECTIVES
    if name not in known:
        raise UnknownName("strategy", name, known)
    return known[name]
