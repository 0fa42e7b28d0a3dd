"""Are the gradients through quantised weights those of the weights that are stored? Measured against a reference.

The reference is the same model in fp32 whose linear layers hold the dequantised weights, with the same adapters. What
quantisation does to the weights is thus in both, and what differs is the arithmetic that a kernel does with them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.errors import UnknownName
from chimera_lib.prion import batches, models, quantization

if TYPE_CHECKING:
    from torch import Tensor, nn

SPREAD = 0.01  # standard deviation of the adapters' second halves, which start at zero and would hide the first


@dataclass(frozen=True)
class Agreement:
    """Relative errors ‖g - g_ref‖ / ‖g_ref‖ of the gradients, by adapter weight.

    Attributes:
        model, precision: what was measured.
        before: in training mode, as loaded.
        after: in training mode, after a forward pass without gradients in evaluation mode.
        evaluation: of a backward pass in evaluation mode, after that.
    """

    model: str
    precision: str
    before: dict[str, float]
    after: dict[str, float]
    evaluation: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest error in training mode."""
        return max(*self.before.values(), *self.after.values())

    def text(self) -> str:
        """One line for people: the largest and the median error in each state."""
        states = {"as loaded": self.before, "after a forward pass": self.after, "in evaluation mode": self.evaluation}
        errors = ", ".join(
            f"{max(errors.values()):.2e} (median {statistics.median(errors.values()):.2e}) {state}"
            for state, errors in states.items()
        )
        return f"{self.model} {self.precision}, largest relative error of {len(self.before)} gradients: {errors}"


def gradient_agreement(
    name: str,
    precision: str,
    *,
    length: int = 32,
    sequences: int = 2,
    seed: int = 0,
    device: str = "cpu",
    guard: bool = True,
) -> Agreement:
    """Compare the gradients of a quantised model's adapters with those of the dequantised reference.

    What to expect: 4 bits agree to rounding in every state. 8 bits agree to rounding in training mode on the CPU,
    where bitsandbytes multiplies by the dequantised weights; in evaluation mode, and on a GPU always, the inputs of
    each product are rounded to 8 bits: a few per cent of a gradient in a small model with random weights, and more in
    a pretrained one, some of whose activations are very large.

    Args:
        name: a model or folder, see `models.load`.
        precision: 8bit or 4bit.
        length, sequences: tokens of each of the random sequences that the loss is of.
        seed: of the adapters and the sequences.
        device: cpu or cuda.
        guard: False leaves the trap of `quantization.keep_differentiable` open, to see what it does: where the
            processor has it, errors near 1, or a RuntimeError from a model with biases.

    Raises:
        UnknownName: another precision, or what `models.load` does not know.
    """
    if precision not in quantization.QUANTISED:
        raise UnknownName("quantised precision", precision, quantization.QUANTISED)
    model = models.load(name, precision=precision, tuning="lora", seed=seed, device=device).model
    if not guard:
        _open_the_trap(model)
    exact = reference(model, models.load(name, tuning="lora", seed=seed, device=device).model)
    draws = torch.Generator().manual_seed(seed)
    _spread(model, exact, draws)
    tokens = torch.randint(model.config.vocab_size, (sequences, length), generator=draws)
    batch = batches.Batch(tokens.to(device))
    wanted = _gradients(exact.train(), batch)
    before = _errors(_gradients(model.train(), batch), wanted)
    with torch.no_grad():
        model.eval()(**batch.inputs, use_cache=False)
    after = _errors(_gradients(model.train(), batch), wanted)
    evaluation = _errors(_gradients(model.eval(), batch), wanted)
    return Agreement(name, precision, before, after, evaluation)


def reference(quantised: nn.Module, plain: Any) -> Any:
    """Put the dequantised weights of a model with adapters into its fp32 counterpart; returns that."""
    for name, layer in quantization.layers(quantised).items():
        plain.get_submodule(name).weight.data = quantization.dequantised(layer)
    return plain


def _spread(model: nn.Module, exact: nn.Module, draws: torch.Generator) -> None:
    """Draw the second halves of both models' adapters, alike; the first are alike by the seed of their making."""
    theirs = _trained(exact)
    for name, ours in _trained(model).items():
        if "lora_B" in name:
            ours.data.copy_(torch.randn(ours.shape, generator=draws) * SPREAD)
        theirs[name].data.copy_(ours.data)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _gradients(model: nn.Module, batch: batches.Batch) -> dict[str, Tensor]:
    trained = _trained(model)
    found = torch.autograd.grad(batches.loss(model, batch), list(trained.values()))
    return dict(zip(trained, found, strict=True))


def _errors(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    return {name: ((found[name] - exact).norm() / exact.norm()).item() for name, exact in wanted.items()}


def _open_the_trap(model: nn.Module) -> None:
    from bitsandbytes.functional import has_avx512bf16

    for layer in quantization.layers(model).values():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = has_avx512bf16()
