"""What does the neighbourhood of a chimera look like? A plane through it, at several zooms, coloured by agreement.

At the scale of brightness steps a plane shows two classes and a line between them. The pocket is on that line, and
shows only at the scale at which the gap moves by as little as the backends' noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import ChimeraError
from chimera_lib.images.analysis import directions

if TYPE_CHECKING:
    from chimera_lib.images.oracle import Oracle

ZOOMS = (4 * 65_793, 16_384, 1_024, 64)  # ULP from the middle to the edge; the widest is four brightness steps
SAME_FIRST, SAME_SECOND, SAME_OTHER = 0, 1, 2  # codes of points on which all backends agree


@dataclass(frozen=True)
class Map:
    """Predictions on a square of points about a chimera.

    Attributes:
        names: the backends, B.
        offsets: (S,) positions along both directions, ULP; the middle one is 0, the chimera.
        predictions: int (B, S, S); [b, i, j] is at ``offsets[j]`` along the first direction, ``offsets[i]`` the second.
        classes: the two classes that share the conflict at the chimera.
    """

    names: tuple[str, ...]
    offsets: np.ndarray
    predictions: np.ndarray
    classes: tuple[int, int]

    @property
    def conflict(self) -> np.ndarray:
        """bool (S, S): whether any two backends differ."""
        return (self.predictions != self.predictions[0]).any(0)

    def codes(self) -> np.ndarray:
        """int (S, S): 0, 1, 2 where all say the first class, the second, another; else 2 + which differ from backend 0.

        Which differ is a number with bit i set where backend i + 1 says another class than backend 0.
        """
        said = self.predictions[0]
        agreed = np.select([said == self.classes[0], said == self.classes[1]], [SAME_FIRST, SAME_SECOND], SAME_OTHER)
        differ = sum((self.predictions[b + 1] != said).astype(int) << b for b in range(len(self.names) - 1))
        return np.where(self.conflict, SAME_OTHER + np.asarray(differ), agreed)


def plane_of_values(gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two directions (H, W, C), each moving one value of the image: two of median effect on the gap.

    Single values are what a plane can show down to the ULP, where moving all values at once leaps over the pocket.
    """
    order = np.argsort(np.abs(gradient), axis=None)
    order = order[np.abs(gradient).ravel()[order] > 0]
    if len(order) < 2:
        raise ChimeraError("the gap depends on fewer than two values of this image: there is no plane to draw")
    middle = len(order) // 2
    out = np.zeros((2, *gradient.shape))
    for one, place in zip(out, order[middle - 1 : middle + 1], strict=True):
        one.flat[place] = 1.0
    return out[0], out[1]


def plane_of_gradient(gradient: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The steepest direction of the gap, all values moving alike, and a random one along which it stays."""
    rng = np.random.default_rng(seed)
    return directions.along_gradient(gradient, rng), directions.tangent(gradient, rng)


def draw(image: np.ndarray, plane: tuple[np.ndarray, np.ndarray], oracle: Oracle, *, reach: int, side: int = 21) -> Map:
    """Ask about ``side`` x ``side`` points of a plane through ``image`` uint8 (H, W, C), ``reach`` ULP to each edge.

    Points lie at whole ULPs: evenly, that is, where ``side // 2`` divides ``reach``.
    Raises ChimeraError where ``side`` is even (the chimera is the middle) or below 3.
    """
    if side < 3 or side % 2 == 0:
        raise ChimeraError(f"side={side}: expected an odd number of at least 3, so that the chimera is in the middle")
    offsets = np.round(np.linspace(-reach, reach, side))
    across, up = np.meshgrid(offsets, offsets)
    moves = np.multiply.outer(across.ravel(), plane[0]) + np.multiply.outer(up.ravel(), plane[1])
    verdict = oracle.at(directions.points(image, moves))
    predictions = verdict.predictions.reshape(len(verdict.names), side, side)
    z = verdict.logits[:, len(moves) // 2].astype(np.float64).mean(0)
    first, second = np.sort(np.argsort(-z, kind="stable")[:2])
    return Map(verdict.names, offsets, predictions, (int(first), int(second)))
