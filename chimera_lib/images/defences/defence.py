"""What every defence shares: two defended systems that differ in their library alone, and how to ask them.

A *defended system* answers an image with a class, or abstains. The same system runs on library A and on library B;
what is left to attack is an image that both answer, differently (**conflict**), or that one answers and the other
does not (**edge**).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import psutil

from chimera_lib.images.backends.pool import CHUNK, Worker
from chimera_lib.images.search import lattice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from torch import nn

    from chimera_lib.images.network import Network
    from chimera_lib.images.search.protocol import Budget, Outcome

ABSTAINS = -1


@dataclass(frozen=True)
class Answer:
    """What one defended system says of N images.

    Attributes:
        logits: (N, classes), whose argmax is the class that it answers.
        abstains: bool (N,).
    """

    logits: np.ndarray
    abstains: np.ndarray


@dataclass
class Verdict:
    """What both systems say of N images.

    Attributes:
        names: of the two systems.
        logits: (2, N, classes); abstains: bool (2, N).
        edge: whether the attack looks for abstention against an answer.
        predictions: int64 (2, N), the class or ABSTAINS.
        differ: bool (N,), both answer, with different classes.
        half: bool (N,), one abstains and the other answers.
        conflict: bool (N,), what is looked for.
    """

    names: tuple[str, str]
    logits: np.ndarray
    abstains: np.ndarray
    edge: bool = False

    def __post_init__(self) -> None:
        self.predictions = np.where(self.abstains, ABSTAINS, self.logits.argmax(-1))
        self.differ = ~self.abstains.any(0) & (self.predictions[0] != self.predictions[1])
        self.half = self.abstains[0] != self.abstains[1]
        self.conflict = self.half if self.edge else self.differ


class Defence:
    """No defence at all: one backend a side, and its logits as they are. The others override what they change.

    Args:
        sides: the backends of the system on library A and of that on library B, by name.
    """

    name: ClassVar[str] = "none"
    title: ClassVar[str] = "no defence"
    copies: int = 1  # images shown to a backend for one image asked about
    fresh: ClassVar[bool] = False  # whether each system draws its inputs anew
    edge: ClassVar[bool] = False  # whether the attack looks for abstention against an answer
    clean: ClassVar[bool] = True  # whether accuracy and cost are its own to measure

    def __init__(self, sides: tuple[Sequence[str], Sequence[str]]) -> None:
        self.sides = tuple(sides[0]), tuple(sides[1])

    def inputs(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """What the backends see for images uint8 (N, H, W, 3): (N * copies, H, W, 3), uint8 or float32."""
        return images

    def answer(self, logits: np.ndarray) -> Answer:
        """The system's answer from its backends' logits (backends, N, copies, classes)."""
        return Answer(logits[0, :, 0], np.zeros(logits.shape[1], bool))

    def surrogate(self, model: nn.Module, system: Defended) -> nn.Module:  # noqa: ARG002
        """The defended model as the attacker differentiates it; batches of float32 images (N, 3, H, W) in [0, 1]."""
        return model

    def attack(self, model: nn.Module, image: np.ndarray, system: Defended, budget: Budget, seed: int) -> Outcome:
        """Search, knowing the defence, for an image near ``image``, uint8 (H, W, 3), that meets the attack's goal."""
        return lattice.search(self.surrogate(model, system), image, system, budget, seed)

    @property
    def settings(self) -> dict[str, object]:
        """What the defence depends on beside its code, JSON-able."""
        return {}


class Defended:
    """Both defended systems, running: an oracle for searches, and a context manager.

    Args:
        defence: which.
        network: what the backends run.
        seed: of what a system draws itself.

    Attributes:
        names: of the two systems.
        calls: images asked about so far.
    """

    def __init__(self, defence: Defence, network: Network, seed: int = 0) -> None:
        self.defence, self.network = defence, network
        self.workers = {name: Worker(name, network) for side in defence.sides for name in side}
        first, second = ("+".join(side) for side in defence.sides)
        self.names = (first, second if second != first else f"{second} again")
        self.rng = np.random.default_rng(seed)
        self.calls = 0

    def __enter__(self) -> Self:
        try:
            for worker in self.workers.values():
                worker.launch()
            for worker in self.workers.values():
                worker.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.close()

    def info(self) -> dict[str, dict[str, str]]:
        """name -> what each backend says it is."""
        return {name: worker.info() for name, worker in self.workers.items()}

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all backends so far, in seconds."""
        return sum(self.cpu_of(name) for name in self.workers)

    def cpu_of(self, name: str) -> float:
        """CPU time of one backend so far, in seconds."""
        process = self.workers[name].process
        times = psutil.Process(process.pid).cpu_times() if process is not None else None
        return float(times.user + times.system) if times else 0.0

    def raw(self, names: Sequence[str], inputs: np.ndarray) -> dict[str, np.ndarray]:
        """name -> logits (N, classes) of inputs (N, H, W, 3) from each backend, all working at the same time."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for first in range(0, len(inputs), CHUNK):
            for name in parts:
                self.workers[name].send(inputs[first : first + CHUNK])
            for name, part in parts.items():
                part.append(self.workers[name].receive())
        return {name: np.concatenate(part) for name, part in parts.items()}

    def answers(self, images: np.ndarray, side: int) -> Answer:
        """The answers of one system, 0 or 1, to images uint8 (N, H, W, 3)."""
        said = self.raw(self.defence.sides[side], self.defence.inputs(images, self.rng))
        return self._combine(said, side, len(images))

    def _combine(self, said: dict[str, np.ndarray], side: int, count: int) -> Answer:
        logits = np.stack([said[name] for name in self.defence.sides[side]])
        return self.defence.answer(logits.reshape(len(logits), count, self.defence.copies, -1))

    def __call__(self, images: np.ndarray) -> Verdict:
        """Ask both systems about images uint8 (N, H, W, 3)."""
        self.calls += len(images)
        if self.defence.fresh:
            both = [self.answers(images, side) for side in (0, 1)]
        else:
            said = self.raw(list(self.workers), self.defence.inputs(images, self.rng))
            both = [self._combine(said, side, len(images)) for side in (0, 1)]
        logits, abstains = np.stack([a.logits for a in both]), np.stack([a.abstains for a in both])
        return Verdict(self.names, logits, abstains, self.defence.edge)
