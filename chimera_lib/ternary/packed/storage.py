"""What packed layers share: bytes and scales in the place of a weight, and how to get them from a ternary layer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.layers import BIT
from chimera_lib.ternary.packed import codes as codecs
from chimera_lib.ternary.quantizers.activations import ActivationQuantizer
from chimera_lib.ternary.quantizers.protocol import Ternary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chimera_lib.ternary.quantizers.protocol import Quantizer


class CannotPack(ChimeraError):  # noqa: N818  (the class says what went wrong, as those of chimera_lib.errors do)
    """A layer that is not ternary, or whose weight is not finite."""


class PackedTernary(nn.Module):
    """What the packed layers share: bytes and scales for a weight, which ``weight`` computes on demand.

    Attributes:
        codec: of the bytes in the buffer ``packed_<codec>``; a state_dict of another codec thus does not fit.
        weight_shape: of the weight that they stand for.
        plus, minus: scales, 0-dimensional or (C, 1, ...); ``minus`` is None where both are the same.
        activation: the input's int8 quantizer, or None.
        keep_unpacked: keep the int8 codes after the first use: a byte a weight more, and nothing to unpack again.

    Layers of a subclass of nn.Linear or nn.Conv2d stay of that subclass. Results carry no gradient.
    """

    codec: codecs.Codec
    weight_shape: torch.Size
    plus: Tensor
    minus: Tensor | None
    activation: ActivationQuantizer | None
    keep_unpacked: bool
    plain: ClassVar[type[nn.Module]]  # torch's layer that this one stands for
    by_rows: ClassVar[bool]  # pack each output's weights as a row of its own, else all as one row
    _unpacked: Tensor | None

    @classmethod
    def from_layer(cls, layer: nn.Module, *, codec: str = "2bit", keep_unpacked: bool = False) -> Self:
        """The packed layer that answers as a ternary one does in eval mode; ``layer`` itself stays as it is.

        Args:
            layer: a BitLinear (for PackedBitLinear) or BitConv2d (for PackedBitConv2d), of any subclass that
                `chimera_lib.ternary.convert` makes. Its hooks and attributes are taken over.
            codec: ``"2bit"``, or ``"base3"`` (1.6 bits; takes longer to unpack).
            keep_unpacked: keep the int8 codes after their first use.

        Raises CannotPack for another layer, or scales that are not finite; UnknownName for another codec.
        """
        bit = BIT[cls.plain]
        if not isinstance(layer, bit):
            raise CannotPack(f"a {type(layer).__name__} is no {bit.__name__}: convert it first (ternary.convert)")
        coder, quantizer = codecs.codec(codec), cast("Quantizer", layer.quantizer)
        training = quantizer.training
        codes, plus, minus = quantizer.eval().trits(cast("Tensor", layer.weight))
        quantizer.train(training)
        if not (plus.isfinite().all() and minus.isfinite().all()):
            raise CannotPack(f"the scales of this {type(layer).__name__} are not finite: has its training diverged?")
        packed = coder.encode(codes if cls.by_rows else codes.flatten())
        quantized = layer.activation is not None
        made = cls.shell(layer, quantized)
        made.equip(codec, codes.shape, packed, plus.clone(), None if torch.equal(plus, minus) else minus.clone())
        made.keep_unpacked = keep_unpacked
        return made

    @classmethod
    def from_config(cls, layer: nn.Module, config: Mapping[str, Any]) -> Self:
        """A packed layer of zeros in the place of ``layer`` (plain, ternary or packed), to load what `config` told."""
        made = cls.shell(layer, config["activation"] is not None)
        coder, shape = codecs.codec(config["codec"]), torch.Size(config["shape"])
        zeros = torch.zeros(shape, dtype=torch.int8)
        scale = torch.zeros(config["scale_shape"], dtype=getattr(torch, config["dtype"]))
        packed = coder.encode(zeros if cls.by_rows else zeros.flatten())
        made.equip(config["codec"], shape, packed, scale, scale.clone() if config["scales"] == 2 else None)
        return made

    @classmethod
    def shell(cls, layer: nn.Module, quantized: bool) -> Self:
        """An inference copy of ``layer``, without its weight; ``quantized`` says whether its input is."""
        own = {k: v.copy() if isinstance(v, dict) and k.startswith("_") else v for k, v in vars(layer).items()}
        quantized_kinds = (BIT[cls.plain], PackedTernary)
        kind = next(k for k in type(layer).__mro__ if issubclass(k, cls.plain) and not issubclass(k, quantized_kinds))
        made = blank(cls, kind)
        made.__dict__.update(own)
        made._parameters.pop("weight", None)
        made._buffers.clear()
        for name in ("quantizer", "activation"):
            made._modules.pop(name, None)
            made.__dict__.pop(name, None)
        made.activation = ActivationQuantizer() if quantized else None
        if (bias := made._parameters.get("bias")) is not None:
            made._parameters["bias"] = nn.Parameter(bias.detach().clone(), requires_grad=False)
        return cast("Self", made.eval())

    def equip(self, codec: str, shape: torch.Size, packed: Tensor, plus: Tensor, minus: Tensor | None) -> None:
        """Take over bytes and scales in the place of a weight."""
        self.codec, self.weight_shape = codecs.codec(codec), shape
        self.keep_unpacked, self._unpacked = False, None
        self.register_buffer(self.buffer, packed)
        self.register_buffer("plus", plus)
        self.register_buffer("minus", minus)

    @property
    def buffer(self) -> str:
        """The name of the buffer that holds the bytes."""
        return f"packed_{self.codec.name}"

    @property
    def packed(self) -> Tensor:
        """The bytes: uint8 (N, ceil(K / p)) of a linear layer, (ceil(numel / p),) of a convolution."""
        return cast("Tensor", getattr(self, self.buffer))

    def codes(self) -> Tensor:
        """The trits, unpacked: int8 of the weight's shape."""
        if self._unpacked is not None and self._unpacked.device == self.packed.device:
            return self._unpacked
        length = self.weight_shape[1:].numel() if self.by_rows else self.weight_shape.numel()
        codes = self.codec.decode(self.packed, length, checked=True).view(self.weight_shape)
        if self.keep_unpacked:
            self._unpacked = codes
        return codes

    def values(self) -> Tensor:
        """The weight, unpacked: that of the fake-quantised layer in eval mode, bit for bit."""
        codes = self.codes()
        if self.minus is None:
            return codes.to(self.plus.dtype).mul_(self.plus)
        return Ternary(codes, self.plus, self.minus).values()

    def storage(self) -> int:
        """Bytes that the weight takes: packed trits and scales. The bias, which is not packed, is left out."""
        return sum(t.numel() * t.element_size() for t in (self.packed, self.plus, self.minus) if t is not None)

    def config(self) -> dict[str, Any]:
        """What a file must know, beside the tensors, to build this layer again."""
        return {
            "kind": "linear" if self.by_rows else "conv2d",
            "codec": self.codec.name,
            "shape": list(self.weight_shape),
            "scale_shape": list(self.plus.shape),
            "scales": 1 if self.minus is None else 2,
            "dtype": str(self.plus.dtype).removeprefix("torch."),
            "activation": None if self.activation is None else "int8",
        }

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, codec={self.codec.name!r}, scales={1 if self.minus is None else 2}"

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local: Any, strict: bool, missing: Any, unexpected: Any,
        errors: list[str],
    ) -> None:  # fmt: skip
        found = state_dict.get(prefix + self.buffer)
        self._unpacked = None
        if isinstance(found, Tensor) and found.shape == self.packed.shape:
            length = self.weight_shape[1:].numel() if self.by_rows else self.weight_shape.numel()
            try:
                self.codec.check(found, length)
            except (TypeError, ValueError) as error:
                errors.append(f"{prefix}{self.buffer}: {error}")
                return
        super()._load_from_state_dict(state_dict, prefix, local, strict, missing, unexpected, errors)

    def check_input(self, x: Tensor) -> None:
        """Refuse an input of another dtype, as torch's own layers do."""
        if x.dtype != self.plus.dtype:
            raise TypeError(f"input is {x.dtype}, this layer {self.plus.dtype}: convert one of them with .to(dtype)")


@functools.cache
def packed_class(packed: type[PackedTernary], kind: type[nn.Module]) -> type[PackedTernary]:
    """The packed class for layers of class ``kind``: ``packed`` itself, or a subclass of it and ``kind``.

    As in `chimera_lib.ternary.layers`, ``kind``'s own forward comes first and reaches the packed one by ``super()``.
    """
    if kind is packed.plain:
        return packed
    rebuilding = {"__reduce_ex__": lambda self, protocol: (blank, (packed, kind), vars(self))}  # noqa: ARG005
    return cast("type[PackedTernary]", type(f"Packed{kind.__name__}", (kind, packed), rebuilding))


def blank(packed: type[PackedTernary], kind: type[nn.Module]) -> PackedTernary:
    """An empty layer of ``packed_class(packed, kind)``, to be filled."""
    made = packed_class(packed, kind)  # type: ignore[arg-type]  # mypy takes a Module's hash for its class's
    return made.__new__(made)
