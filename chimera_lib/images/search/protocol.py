"""What every search strategy shares: the budget, the counted model, and the shape of an outcome.

A strategy is one function in a file of its own::

    search(model, image, oracle, budget, seed) -> Outcome

``image`` is uint8 (H, W, 3). The budget counts **forward evaluations** of the torch model (one image
through the network; a gradient costs three: forward, and backward at twice its price) and **oracle
calls** (one image shown to all backends).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

GRADIENT_COST = 3  # forward evaluations; a backward pass costs about two forwards
BATCH = 8  # images per forward pass; larger batches leave the second-level cache


class Verdict(Protocol):
    """What the oracle says of N images: one row per backend."""

    @property
    def logits(self) -> np.ndarray:
        """float32 (backends, N, classes)."""
        ...

    @property
    def predictions(self) -> np.ndarray:
        """int (backends, N)."""
        ...

    @property
    def conflict(self) -> np.ndarray:
        """bool (N,): the images that the search is after."""
        ...


class Asks(Protocol):
    """Anything that shows images, uint8 (N, H, W, 3), to every backend."""

    @property
    def names(self) -> tuple[str, ...]:
        """The backends, in the order of a verdict's rows."""
        ...

    def __call__(self, images: np.ndarray, /) -> Verdict: ...


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most a search may spend on one start image."""

    evaluations: int = 5000
    oracle_calls: int = 200

    def __post_init__(self) -> None:
        for name in ("evaluations", "oracle_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"budget {name}={getattr(self, name)}: expected at least 1")


@dataclass
class Outcome:
    """What a search brings back from one start image.

    ``candidates`` are uint8 images, most promising first. ``chimera`` is the first of them on which the
    backends were seen to disagree, or None. ``path`` holds the top-two logit gap after each step, and
    ``points`` the image at each.
    """

    candidates: list[np.ndarray] = field(default_factory=list)
    chimera: np.ndarray | None = None
    predictions: np.ndarray | None = None  # what each backend says of the chimera, (backends,)
    evaluations: int = 0
    oracle_calls: int = 0
    path: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)


class BudgetSpent(Exception):  # noqa: N818  (no error: the ordinary end of a search)
    """Raised inside a search by its probe; the search ends and returns what it has."""


def top_two(logits: np.ndarray) -> tuple[int, int]:
    """The indices of the largest and second largest of logits (classes,)."""
    first, second = np.argsort(-logits, kind="stable")[:2]
    return int(first), int(second)


def gaps(logits: np.ndarray) -> np.ndarray:
    """Top-two gaps (N,) of logits (N, classes); never negative."""
    ordered = np.sort(logits, axis=1)
    return ordered[:, -1] - ordered[:, -2]


class Probe:
    """A torch model whose evaluations, and an oracle whose calls, are counted against a budget."""

    def __init__(self, model: nn.Module, oracle: Asks | None, budget: Budget) -> None:
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() before a search")
        self.model = model
        self.oracle = oracle
        self.budget = budget
        self.outcome = Outcome()
        self._exact: nn.Module | None = None

    def spend(self, evaluations: int) -> None:
        """Book forward evaluations; raises BudgetSpent, booking nothing, where they exceed the budget."""
        if self.outcome.evaluations + evaluations > self.budget.evaluations:
            raise BudgetSpent
        self.outcome.evaluations += evaluations

    def visit(self, image: np.ndarray, gap: float) -> None:
        """Note that the search stands at ``image``, where its model sees a top-two logit gap of ``gap``."""
        self.outcome.path.append(float(gap))
        self.outcome.points.append(image)

    def logits(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Logits float64 (N, classes) of uint8 images (N, H, W, 3)."""
        images = np.asarray(images)
        self.spend(len(images))
        rows = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                rows.append(self.model(as_input(images[start : start + BATCH])).double().numpy())
        return np.concatenate(rows)

    def exact_logits(self, images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """Logits float64 (N, classes) of uint8 images (N, H, W, 3), by the same model in double precision.

        The pixels are divided in float32 as everywhere, so this is what the backends would agree on if they did not
        round. An evaluation counts as one, like any other; on a CPU it takes about four times as long.
        """
        images = np.asarray(images)
        self.spend(len(images))
        if self._exact is None:
            self._exact = copy.deepcopy(self.model).double()
        rows = []
        with torch.no_grad():
            for start in range(0, len(images), BATCH):
                rows.append(self._exact(as_input(images[start : start + BATCH]).double()).numpy())
        return np.concatenate(rows)

    def gap_gradient(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
        """Logits (classes,), the top two classes, and the effect of one pixel step on their gap.

        The effect, float64 (H, W, 3), is d(z_first - z_second) / dx / 255: what the gap gains, to first
        order, when that sub-pixel goes up by one of its 256 levels.
        """
        self.spend(GRADIENT_COST)
        x = as_input(image[None]).requires_grad_()
        z = self.model(x)[0]
        logits = z.detach().double().numpy()
        first, second = top_two(logits)
        (gradient,) = torch.autograd.grad(z[first] - z[second], x)
        return logits, (first, second), gradient[0].permute(1, 2, 0).double().numpy() / 255

    def class_gradients(self, image: np.ndarray, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Logits (classes,) and, for each of k ``classes``, the effect of one pixel step on its logit (k, H, W, 3).

        Booked as one forward evaluation and two for each class.
        """
        self.spend(1 + 2 * len(classes))
        x = as_input(image[None]).requires_grad_()
        z = self.model(x)[0]
        rows = [torch.autograd.grad(z[c], x, retain_graph=True)[0][0] for c in classes]
        return z.detach().double().numpy(), torch.stack(rows).permute(0, 2, 3, 1).double().numpy() / 255

    def ask(self, image: np.ndarray) -> Verdict | None:
        """Show one uint8 image to all backends; remembers a chimera. None where there is no oracle.

        Raises BudgetSpent where the oracle calls are used up.
        """
        if self.oracle is None:
            return None
        if self.outcome.oracle_calls >= self.budget.oracle_calls:
            raise BudgetSpent
        self.outcome.oracle_calls += 1
        verdict = self.oracle(image[None])
        if verdict.conflict[0] and self.outcome.chimera is None:
            self.outcome.chimera = image.copy()
            self.outcome.predictions = verdict.predictions[:, 0].copy()
        return verdict


def as_input(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W), each value ``u / 255`` rounded once."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (N, H, W, 3)")
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def ask_until_spent(probe: Probe, candidates: Sequence[np.ndarray] | np.ndarray, gap: np.ndarray) -> None:
    """Make candidates the outcome's, smallest gap (N,) first, and ask about each.

    Ends at the first chimera, which moves to the front, or with the budget of oracle calls.
    """
    outcome = probe.outcome
    outcome.candidates = [candidates[i] for i in np.argsort(gap, kind="stable")]
    for place, image in enumerate(outcome.candidates):
        try:
            verdict = probe.ask(image)
        except BudgetSpent:
            return
        if verdict is None:
            return
        if verdict.conflict[0]:
            outcome.candidates.insert(0, outcome.candidates.pop(place))
            return
