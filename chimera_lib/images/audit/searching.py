"""Whether conflicts can be made for this model: lattice searches from the user's own images, and fresh processes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images import campaign
from chimera_lib.images.audit.result import Audit, Made
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.torch_network import to_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chimera_lib.images.audit.reading import Pictures
    from chimera_lib.images.backends.registry import Backend

ORACLE_CALLS = 200  # images that one search may show to the backends


def search(
    found: Audit,
    pictures: Pictures,
    oracle: Oracle,
    count: int,
    *,
    evaluations: int,
    seed: int = 0,
    keep: Path | None = None,
    progress: bool = False,
) -> list[Made]:
    """Search from ``count`` images, drawn at random from those without a conflict, by the ``lattice`` strategy.

    Gradients come from the network as a torch module. Raises ChimeraError for a network that does not take RGB.
    """
    import torch

    from chimera_lib.images.search.protocol import Budget

    if found.network.input_shape[0] != 3:
        raise ChimeraError(f"a search needs RGB images, the network takes {found.network.input_shape[0]} channel")
    agreed = np.flatnonzero(~found.conflict)
    count = min(count, len(agreed))
    if not count:
        return []
    torch.set_num_threads(1)  # the number of threads changes the last bits
    drawn = np.sort(np.random.default_rng(seed).choice(agreed, size=count, replace=False))
    names = [found.names[i] for i in drawn]
    images = np.stack([pictures.load(name) for name in names])
    rows, chimeras = campaign.run(
        to_torch(found.network),
        images,
        range(count),
        oracle,
        name="lattice",
        budget=Budget(evaluations=evaluations, oracle_calls=ORACLE_CALLS),
        seed=seed,
        output=_folder(keep, names, seed, evaluations),
        progress=progress,
    )
    ready = iter(chimeras)
    return [
        Made(
            names[row.start],
            next(ready) if row.found else None,
            row.evaluations,
            row.oracle_calls,
            row.predictions or {},
            row.linf,
            row.l0,
        )
        for row in rows
    ]


def _folder(keep: Path | None, names: Sequence[str], seed: int, evaluations: int) -> Path | None:
    """Where an interrupted search goes on: one folder for each choice of starts and settings."""
    if keep is None:
        return None
    return keep / f"search-{hashlib.sha256(repr((list(names), seed, evaluations)).encode()).hexdigest()[:16]}"


def confirm(
    found: Audit,
    backends: Sequence[Backend],
    pictures: Pictures,
    *,
    timeout: float,
    report: Callable[[str], None],
) -> Audit:
    """Show the conflicts, found and made, to freshly started backends, and note those on which they disagree again."""
    names = [found.names[i] for i in np.flatnonzero(found.conflict).tolist()]
    if not names and all(one.image is None for one in found.made):
        return found
    with Oracle(found.network, backends, timeout=timeout, report=report) as oracle:

        def disagree(image: np.ndarray) -> bool:
            return bool(oracle(image[None]).conflict[0])

        again = frozenset(name for name in names if disagree(pictures.load(name)))
        made = (one if one.image is None else replace(one, confirmed=disagree(one.image)) for one in found.made)
        return replace(found, confirmed=again, made=tuple(made))
