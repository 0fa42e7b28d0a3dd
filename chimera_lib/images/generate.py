"""Find as many chimeras as a submission needs, from start images in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera_lib.errors import BackendDied, BackendUnavailable, ChimeraError
from chimera_lib.images import campaign
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search.protocol import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from torch import nn

    from chimera_lib.images.network import Network


@dataclass(frozen=True)
class Made:
    """Chimeras, uint8 (H, W, 3) each, where each comes from, and how many starts it took."""

    images: list[np.ndarray]
    origins: list[dict[str, object]]
    tried: int


def chimeras(
    model: nn.Module,
    network: Network,
    images: np.ndarray,
    unique: int,
    *,
    backends: Sequence[str],
    output: Path,
    strategy: str = "lattice",
    budget: Budget | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Made:
    """Search from ``images``, uint8 (N, H, W, 3), in order, until ``unique`` different chimeras are found.

    Results are kept in ``output`` as they come; a second call with the same settings goes on from there.
    Raises ChimeraError when the starts run out first.
    """
    with Oracle(network, backends) as oracle:
        rows, hits = campaign.run(
            model,
            images,
            range(len(images)),
            oracle,
            name=strategy,
            budget=budget or Budget(),
            seed=seed,
            output=output,
            enough=unique,
            progress=progress,
        )
    found: dict[bytes, tuple[np.ndarray, dict[str, object]]] = {}
    for row, image in zip((row for row in rows if row.found), hits, strict=True):
        origin = {"strategy": strategy, "seed": seed, "start": row.start, "predictions": row.predictions}
        found.setdefault(image.tobytes(), (image, origin))
    if len(found) < unique:
        raise ChimeraError(
            f"{len(found)} chimeras from {len(rows)} starts; {unique} were asked for: lower that or name more starts"
        )
    return Made([image for image, _ in found.values()], [origin for _, origin in found.values()], len(rows))


def unavailable(backends: Sequence[str], network: Network) -> str | None:
    """Why these backends cannot be asked on this machine, in one line, or None where they can."""
    try:
        with Oracle(network, backends):
            return None
    except (BackendUnavailable, BackendDied) as error:
        return str(error)
