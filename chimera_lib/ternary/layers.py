"""Linear and convolution layers that multiply by a ternary weight while a full-precision one is trained.

Both are true subclasses of torch's layers, with the trained parameter under its usual name ``weight``, so that weight
decay rules, initialisers and checkpoints written for those work on these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from chimera_lib.ternary import quantizers
from chimera_lib.ternary.quantizers.activations import activation as build_activation

if TYPE_CHECKING:
    from chimera_lib.ternary.quantizers.activations import ActivationQuantizer
    from chimera_lib.ternary.quantizers.protocol import Quantizer

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class BitLinear(nn.Linear):
    """nn.Linear whose weight is quantized to three values, and whose input to eight bits, in every forward.

    Args:
        in_features, out_features, bias, device, dtype: as in nn.Linear; the bias stays in full precision.
        mode: the weight's quantizer, one of ``quantizers.QUANTIZERS``.
        activation: the input's: ``"int8"``, ``"as_published"`` (which stops the gradient), or None.
        options: those of the quantizer, e.g. ``alpha_target=.7``, ``scale="optimal"``, ``per_channel=True``.

    The input has any number of leading dimensions. Raises UnknownName for an unknown mode or activation.
    """

    quantizer: Quantizer
    activation: ActivationQuantizer | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        mode: str = "chimera",
        activation: str | None = "int8",
        **options: Any,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        equip(self, mode, activation, options)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (nn.Linear's name for it)
        x = input if self.activation is None else self.activation(input)
        return F.linear(x, self.quantizer(self.weight), self.bias)

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, *, mode: str = "chimera", activation: str | None = "int8", **options: Any
    ) -> BitLinear:
        """A BitLinear that **shares** ``linear``'s weight and bias: the same Parameter objects, tied ones stay tied.

        Its training flag, hooks and attributes are taken over too; where ``linear`` is of a subclass of nn.Linear, so
        is the result. Deep-copy ``linear`` first for a layer of its own. Raises TypeError for what cannot be converted.
        """
        return cast("BitLinear", adopt(linear, nn.Linear, mode, activation, options))


class BitConv2d(nn.Conv2d):
    """nn.Conv2d whose weight is quantized to three values, and whose input to eight bits, in every forward.

    Takes nn.Conv2d's arguments, all of them, then ``mode``, ``activation`` and the quantizer's options as BitLinear.
    """

    quantizer: Quantizer
    activation: ActivationQuantizer | None

    def __init__(self, *args: Any, mode: str = "chimera", activation: str | None = "int8", **arguments: Any) -> None:
        own = {name: arguments.pop(name) for name in list(arguments) if name in CONVOLUTION}
        super().__init__(*args, **own)
        equip(self, mode, activation, arguments)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        # Quantizing before the padding is the same as after it: padding adds zeros or repeats values, so that neither
        # the largest magnitude nor any level changes.
        x = input if self.activation is None else self.activation(input)
        return super()._conv_forward(x, self.quantizer(weight), bias)

    @classmethod
    def from_conv(
        cls, conv: nn.Conv2d, *, mode: str = "chimera", activation: str | None = "int8", **options: Any
    ) -> BitConv2d:
        """A BitConv2d that **shares** ``conv``'s weight and bias; see ``BitLinear.from_linear``."""
        return cast("BitConv2d", adopt(conv, nn.Conv2d, mode, activation, options))


CONVOLUTION = (
    *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"),
    *("padding_mode", "device", "dtype"),
)
BIT: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: BitLinear, nn.Conv2d: BitConv2d}
MADE = dict(BIT)  # ternary classes by the class of the layers that they are for
FORWARDS = ("forward", "_conv_forward")


def equip(layer: nn.Linear | nn.Conv2d, mode: str, activation: str | None, options: dict[str, Any]) -> None:
    """Give a layer its two quantizers, in its own training mode."""
    layer.add_module("quantizer", quantizers.build(mode, layer.weight, **options).train(layer.training))
    layer.add_module("activation", build_activation(activation))


def adopt(
    layer: nn.Module, plain: type[nn.Module], mode: str, activation: str | None, options: dict[str, Any]
) -> nn.Module:
    """A layer with everything that ``layer`` has (the same parameters and hooks), and quantizers."""
    problem = obstacle(layer, plain)
    if problem:
        raise TypeError(f"cannot convert {type(layer).__name__}: {problem}")
    own = {k: v.copy() if isinstance(v, dict) and k.startswith("_") else v for k, v in vars(layer).items()}
    converted = blank(plain, type(layer))
    converted.__dict__.update(own)
    equip(cast("nn.Linear | nn.Conv2d", converted), mode, activation, options)
    return converted


def obstacle(layer: nn.Module, plain: type[nn.Module]) -> str | None:
    """Why ``layer`` cannot become a ternary ``plain`` (nn.Linear or nn.Conv2d), with the way out; None where it can."""
    if not isinstance(layer, plain):
        return f"expected a {plain.__name__}"
    if isinstance(layer, tuple(BIT.values())):
        return "its weight is ternary already"
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters; remove the parametrization or pruning first"
    weight: Any = layer.weight
    if nn.parameter.is_lazy(weight):
        return "its weight has no shape yet; run one forward first"
    if not weight.is_floating_point():
        return f"its weight is {weight.dtype}, expected real floating point; convert before quantizing otherwise"
    if any(name in vars(layer) for name in FORWARDS):
        return "its forward has been replaced on the instance; restore it, or skip the layer"
    for kind in type(layer).__mro__[: type(layer).__mro__.index(plain)]:
        for name in FORWARDS:
            code = getattr(vars(kind).get(name), "__code__", None)
            if name in vars(kind) and (code is None or "super" not in code.co_names):
                return (
                    f"{kind.__name__}.{name} does not call super().{name}: it would go on with the old weight; skip it"
                )
    return None


def bit_class(plain: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    """The ternary class for layers of class ``kind``: BitLinear or BitConv2d, or a subclass of that and ``kind``.

    ``kind``'s own forward comes first and reaches the ternary one where it calls ``super()``.
    """
    if kind not in MADE:
        rebuilding = {"__reduce_ex__": lambda self, protocol: (blank, (plain, kind), vars(self))}  # noqa: ARG005
        MADE[kind] = type(f"Bit{kind.__name__}", (kind, BIT[plain]), rebuilding)
    return MADE[kind]


def blank(plain: type[nn.Module], kind: type[nn.Module]) -> nn.Module:
    """An empty layer of ``bit_class(plain, kind)``, to be filled; pickles of made classes name this function."""
    made = bit_class(plain, kind)
    return made.__new__(made)
