"""Inference layers whose weight is kept packed, and `pack`, which gives them to a whole model.

A layer keeps the bytes of its codec, one scale or two (of the tensor, or of each output channel), and the bias. What it
answers is what the layer it was made from answers in eval mode, within float rounding:

- int8 activations in `PackedBitLinear`: sums of level times trit are exact whole numbers, scaled once at the end. The
  fake-quantised layer rounds every product and every partial sum in float32, and the two differ by what it rounds: a
  relative error of about 1e-7 sqrt(K) of the output's norm, and well below 1e-5 up to K = 65,536. Against float64
  the packed answer is the nearer one.
- otherwise (no activation quantizer, or a convolution): the unpacked weight is bit for bit that of the fake-quantised
  layer and goes through the same torch function, except for a few rows times a large weight, which are multiplied and
  summed in float32 by the compiled kernel, in another order.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.layers import BIT
from chimera_lib.ternary.packed import codes, matvec
from chimera_lib.ternary.packed.storage import CannotPack, PackedTernary

if TYPE_CHECKING:
    from chimera_lib.ternary.quantizers.activations import ActivationQuantizer

Model = TypeVar("Model", bound=nn.Module)
FEW = 4  # rows that are faster one by one through the compiled kernel than together after unpacking


class NothingToPack(ChimeraError):  # noqa: N818  (the class says what went wrong, as those of chimera_lib.errors do)
    """A model without a ternary layer."""


class PackedBitLinear(PackedTernary, nn.Linear):
    """A BitLinear for inference. Input (..., in_features), output (..., out_features). Made by `from_layer`."""

    plain, by_rows = nn.Linear, True
    weight = property(PackedTernary.values)  # for code that looks at a layer's weight

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Linear's name for it)
        self.check_input(input)
        *leading, length = input.shape or (0,)
        if length != self.in_features:
            raise ValueError(f"input of shape {tuple(input.shape)}: expected (..., {self.in_features})")
        rows = input.detach().reshape(math.prod(leading), length)
        y = self.in_floats(rows) if self.activation is None else self.in_integers(rows, self.activation)
        return y.view(*leading, self.out_features)

    def in_integers(self, x: Tensor, activation: ActivationQuantizer) -> Tensor:
        """(R, K) to (R, N): exact sums of level times trit, scaled and shifted at the end."""
        levels, step = activation.codes(x)
        step = torch.where(step.isfinite(), step, torch.nan)  # the fake quantiser's answer to an infinite input
        plus = self.plus.reshape(-1).to(step.dtype)
        total, magnitude = self.sums(levels)
        if self.minus is None or magnitude is None:
            y = total.to(step.dtype) * (step * plus)
        else:
            minus = self.minus.reshape(-1).to(step.dtype)
            ones, minus_ones = (magnitude + total) >> 1, (magnitude - total) >> 1
            y = (ones.to(step.dtype) * plus - minus_ones.to(step.dtype) * minus) * step
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    def sums(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        """sum_k levels[r, k] code[n, k], and where there are two scales, the same with |code|: int32 (R, N)."""
        both = self.minus is not None
        if len(levels) and len(levels) <= FEW and matvec.suits(self.packed, self.weight_shape.numel()):
            return self.by_vectors(levels.to(torch.int32), both)
        codes = self.codes()
        return matvec.integer_product(levels, codes), matvec.integer_product(levels, codes.abs()) if both else None

    def in_floats(self, x: Tensor) -> Tensor:
        """(R, K) to (R, N) without an activation quantizer."""
        kernel = x.dtype == torch.float32 and len(x) and len(x) <= FEW
        if not (kernel and matvec.suits(self.packed, self.weight_shape.numel())):
            return F.linear(x, self.values(), self.bias)
        total, magnitude = self.by_vectors(x, self.minus is not None)
        if self.minus is None or magnitude is None:
            y = total * self.plus.reshape(-1)
        else:
            y = ((total + magnitude) * self.plus.reshape(-1) - (magnitude - total) * self.minus.reshape(-1)) / 2
        return y if self.bias is None else y + self.bias

    def by_vectors(self, x: Tensor, both: bool) -> tuple[Tensor, Tensor | None]:
        """The compiled kernel, once a row."""
        found = [matvec.matvec(self.packed, row, self.codec, both=both) for row in x]
        magnitudes = [magnitude for _, magnitude in found if magnitude is not None]
        return torch.stack([total for total, _ in found]), torch.stack(magnitudes) if both else None


class PackedBitConv2d(PackedTernary, nn.Conv2d):
    """A BitConv2d for inference, with all of nn.Conv2d's options. Made by `from_layer`.

    The weight is unpacked in every forward, or once where ``keep_unpacked``, and multiplied in floats by torch's own
    convolution: bit for bit the answer of the fake-quantised layer; smaller, not faster.
    """

    plain, by_rows = nn.Conv2d, False
    weight = property(PackedTernary.values)

    @torch.no_grad()
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        self.check_input(input)
        x = input.detach()
        return super()._conv_forward(x if self.activation is None else self.activation(x), weight, bias)


PACKED: dict[type[nn.Module], type[PackedTernary]] = {nn.Linear: PackedBitLinear, nn.Conv2d: PackedBitConv2d}


def pack(model: Model, *, codec: str = "2bit", keep_unpacked: bool = False) -> Model:
    """A copy of a model for inference in which every ternary layer is packed; ``model`` stays as it is.

    Args:
        model: with BitLinear or BitConv2d layers (see `chimera_lib.ternary.convert`), or such a layer itself. All else
            is copied as it is: embeddings, norms, what was skipped.
        codec: ``"2bit"``, or ``"base3"`` (1.6 bits).
        keep_unpacked: keep each layer's int8 codes after their first use.

    Returns the copy in eval mode, no parameter of which wants a gradient.

    Raises NothingToPack, CannotPack (the message names the layer), UnknownName for another codec.
    """
    codes.codec(codec)
    made: dict[int, nn.Module] = {}
    for name, layer in model.named_modules():
        packed = next((packed for plain, packed in PACKED.items() if isinstance(layer, BIT[plain])), None)
        if packed is not None:
            try:
                made[id(layer)] = packed.from_layer(layer, codec=codec, keep_unpacked=keep_unpacked)
            except CannotPack as error:
                raise CannotPack(f"layer {name!r}: {error}") from error
    if not made:
        raise NothingToPack(f"{type(model).__name__} has no ternary layer: make some with chimera_lib.ternary.convert")
    return exchanged(model, made)


def exchanged(model: Model, made: dict[int, nn.Module]) -> Model:
    """A deep copy of a model with other layers in the place of those of some ids, for inference."""
    # A deep copy takes what its memo names as copied already: wherever an old layer stood, the new one does.
    copied = copy.deepcopy(model, dict(made))
    for module in copied.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and set(module.modules()) & set(made.values()):
            # In eval mode torch would hand the weights to one fused kernel. It asks this flag first: 0, no kernel.
            module.activation_relu_or_gelu = 0
    return copied.eval().requires_grad_(False)
