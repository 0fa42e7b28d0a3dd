"""What is measured of a language model before and after: the primary measures, and those of the published experiment.

Primary: log-perplexity of held-out text with the labels shifted once, and the effective rank of the centred states of
the middle layer at 2,000 or more held-out positions without padding. Published: the perplexity of five sentences with
the labels shifted twice, and a rank of the same five sentences, each padded to 128 positions.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError, Diverged
from chimera_lib.prion import batches, hidden_states, spectra

LEAST_POSITIONS = 2000
MOST_LOSS = 50.0  # nats, at which the published perplexity is clipped
SENTENCES = (  # what the published experiment measures on; proverbs and first lines
    "The quick brown fox jumps over the lazy dog.",
    "In a hole in the ground there lived a hobbit.",
    "It was the best of times, it was the worst of times.",
    "To be or not to be, that is the question.",
    "The answer to the ultimate question of life, the universe, and everything is 42.",
)
PADDED = 128


@dataclass(frozen=True)
class Measurement:
    """A model, measured.

    Attributes:
        log_perplexity: nats a token of held-out text.
        effective_rank: of the middle layer's states, between 1 and the width.
        spectral_gap: largest over second largest variance of those states.
        participation_ratio, stable_rank: other counts of the directions in use.
        weight_rank: mean effective rank of the layers' weight matrices; NaN where it was not asked for or they are
            quantised.
        singular_values: of those states, as shares of their sum, falling.
        positions: how many states there were.
    """

    log_perplexity: float
    effective_rank: float
    spectral_gap: float
    participation_ratio: float
    stable_rank: float
    weight_rank: float
    positions: int
    singular_values: tuple[float, ...] = field(repr=False)

    @property
    def perplexity(self) -> float:
        """exp of the log-perplexity; infinite where that is past the range of a float."""
        return math.exp(self.log_perplexity) if self.log_perplexity < 700 else math.inf

    @property
    def record(self) -> dict[str, Any]:
        """The values by name, as they go into ``metrics.jsonl``."""
        return {"perplexity": self.perplexity, **asdict(self)}


def measure(model: nn.Module, passages: Tensor, *, batch: int = 16, weights: bool = False) -> Measurement:
    """The primary measures on held-out passages.

    Args:
        model: a causal language model; left in the mode it was in.
        passages: token ids (R, T), R * T at least 2,000; T is the context that predictions may use.
        batch: passages a forward pass.
        weights: take the effective rank of the weight matrices too, which costs a decomposition of each.

    Raises:
        ChimeraError: fewer than 2,000 positions.
        Diverged: a state is not finite.
    """
    if passages.numel() < LEAST_POSITIONS:
        raise ChimeraError(f"{passages.numel()} held-out positions, expected {LEAST_POSITIONS} or more")
    device = next(model.parameters()).device
    parts = [part.to(device) for part in passages.split(batch)]
    with hidden_states.watched(model) as caught:
        total = sum(batches.loss(model, batches.Batch(part)).item() * len(part) for part in parts)
    states = torch.cat(caught)
    values = _values(states, centred=True)
    shares = (values / values.sum()).tolist()
    return Measurement(
        log_perplexity=total / len(passages),
        effective_rank=spectra.effective_rank(values),
        spectral_gap=spectra.spectral_gap(values),
        participation_ratio=spectra.participation_ratio(values),
        stable_rank=spectra.stable_rank(values),
        weight_rank=_weight_rank(model) if weights else math.nan,
        positions=len(states),
        singular_values=tuple(shares),
    )


def measure_as_published(model: nn.Module, tokenizer: Any, *, double_shift: bool = True) -> Measurement:
    """The published measures: five sentences, padded, uncentred, small singular values dropped, labels shifted twice.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer, with a padding token.
        double_shift: False mends this one fault of them.
    """
    device = next(model.parameters()).device
    plain = [tokenizer(text, return_tensors="pt").input_ids.to(device) for text in SENTENCES]
    padded = [_padded(ids, tokenizer.pad_token_id) for ids in plain]
    with hidden_states.watched(model):
        scored = [batches.loss(model, batches.Batch(ids), double_shift=double_shift).item() for ids in plain]
    losses = [min(one, MOST_LOSS) for one in scored]
    lengths = [ids.shape[1] - 1 for ids in plain]  # as they are counted there
    states = hidden_states.middle(model, padded)
    values = _values(states, centred=False)
    return Measurement(
        log_perplexity=sum(a * b for a, b in zip(losses, lengths, strict=True)) / sum(lengths),
        effective_rank=spectra.published_rank(values),
        spectral_gap=spectra.spectral_gap(_values(states, centred=True)),
        participation_ratio=spectra.participation_ratio(values),
        stable_rank=spectra.stable_rank(values),
        weight_rank=math.nan,
        positions=len(states),
        singular_values=tuple((values / values.sum()).tolist()),
    )


def catalyst_rank(model: nn.Module, batch: batches.Batch) -> float:
    """The published measure of rank on the catalyst itself, by which that experiment stops early."""
    return spectra.published_rank(_values(hidden_states.middle(model, [batch.inputs]), centred=False))


def _padded(ids: Tensor, padding: int) -> dict[str, Tensor]:
    row = torch.nn.functional.pad(ids[:, :PADDED], (0, max(0, PADDED - ids.shape[1])), value=padding)
    mask = (torch.arange(PADDED, device=ids.device) < ids.shape[1]).long()[None]
    return {"input_ids": row, "attention_mask": mask}


def _values(states: Tensor, *, centred: bool) -> Tensor:
    if not torch.isfinite(states).all():
        raise Diverged("the middle layer's states are not finite: the model has diverged; use a smaller step")
    return spectra.singular_values(states.cpu(), centred=centred)


def _weight_rank(model: nn.Module) -> float:
    matrices = [
        parameter
        for parameter in hidden_states.layers(model).parameters()
        if parameter.ndim == 2 and parameter.is_floating_point() and min(parameter.shape) > 1
    ]
    quantised = any(not parameter.is_floating_point() for parameter in model.parameters())
    return math.nan if quantised or not matrices else spectra.weight_rank(matrices)
