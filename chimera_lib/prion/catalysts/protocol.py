"""What a catalyst or a control is: a name, whether it repeats itself, and what it shows at each step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.batches import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn


@dataclass(frozen=True)
class Catalyst:
    """Something to train a model on, one batch a step.

    Attributes:
        name: its kind, a name of `catalysts.KINDS`.
        repeated: whether every step shows the same.
        draw: gives the batch of a step, counted from 0; the same step always gets the same batch.
        facts: numbers known of it, such as its rho; not of every kind.
    """

    name: str
    repeated: bool
    draw: Callable[[int], Batch]
    facts: Mapping[str, float] = field(default_factory=dict)

    def batch(self, step: int) -> Batch:
        """What the model is shown at a step, counted from 0: tensors on the model's device."""
        return self.draw(step)


def repeated(name: str, shown: Batch, facts: Mapping[str, float] | None = None) -> Catalyst:
    """A catalyst that shows one batch at every step."""
    return Catalyst(name, True, lambda _: shown, facts or {})


def fitted(catalyst: Catalyst, model: nn.Module) -> Catalyst:
    """The same repeated catalyst for a model, its embeddings in the type and on the device of that model's.

    It is returned as it is where that changes nothing. Its facts are those of the embeddings before rounding.
    """
    shown, weight = catalyst.batch(0), embeddings(model)
    if shown.embeddings is None or (shown.embeddings.dtype, shown.embeddings.device) == (weight.dtype, weight.device):
        return catalyst
    return repeated(catalyst.name, Batch(shown.labels.to(weight.device), shown.embeddings.to(weight)), catalyst.facts)


def fresh(name: str, seed: int, draw: Callable[[torch.Generator], Batch]) -> Catalyst:
    """A catalyst that draws a new batch for every step, from a generator of that step's own."""
    return Catalyst(name, False, lambda step: draw(generator(seed, step)))


def generator(seed: int, step: int = 0) -> torch.Generator:
    """The generator of a seed and a step; different pairs give unrelated numbers, up to a million steps a seed."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def embeddings(model: nn.Module) -> Tensor:
    """The model's input embeddings, detached, shape (V, d).

    Raises:
        ChimeraError: the model has none of floating point.
    """
    weight = model.get_input_embeddings().weight  # type: ignore[operator]
    if not weight.is_floating_point():
        raise ChimeraError(
            f"the embeddings are {weight.dtype}: expected floating-point numbers; leave them unquantized"
        )
    return weight.detach()


def mean_norm(model: nn.Module) -> float:
    """Mean Euclidean norm of the model's input embeddings, over its tokens."""
    return float(embeddings(model).float().norm(dim=1).mean())


def vocabulary(model: nn.Module, tokenizer: object | None) -> int:
    """How many tokens there are to draw from: the tokenizer's, where the embedding has rows to spare."""
    entries = len(embeddings(model))
    return entries if tokenizer is None else min(entries, len(tokenizer))  # type: ignore[arg-type]


def random_tokens(size: int, length: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Token ids drawn evenly, shape (1, length), int64. Raises ChimeraError for a length under 3."""
    if length < 3:
        raise ChimeraError(f"length is {length}: expected at least 3 tokens")  # with the double shift one is judged
    return torch.randint(size, (1, length), generator=generator).to(device)


def passage(text: Tensor, length: int, generator: torch.Generator, device: torch.device, rows: int = 1) -> Tensor:
    """Passages of a text from places drawn evenly, shape (rows, length), int64.

    Args:
        text: token ids, shape (N,).

    Raises:
        ChimeraError: the text is shorter than a passage, or the length under 3.
    """
    if not 3 <= length <= len(text):
        raise ChimeraError(f"length is {length}: expected 3 to {len(text)}, the tokens of the text")
    places = torch.randint(len(text) - length + 1, (rows, 1), generator=generator)
    return text[places + torch.arange(length)].to(device)
