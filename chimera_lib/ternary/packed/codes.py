"""Codecs for ternary weights: 2 bits a weight (4 trits a byte), and 1.6 bits a weight (5 trits a byte).

Both work on the last dimension and lay it out in planes: of a row of K trits cut into p equal pieces (p trits a byte,
the last piece filled up with zeros), byte j holds the j-th trit of every piece. Neighbouring bytes thus hold
neighbouring trits of each piece, so that a product with a vector reads both in order and needs no shuffling.
A shorter row costs up to p - 1 unused trits; nothing depends on the machine's byte order.

Log2 3 = 1.585 bits is the least that three equally likely values cost; 5 trits a byte need 1.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from chimera_lib.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK = 1 << 18  # packed bytes decoded at a time, so that what is in between stays in the second-level cache


class Codec:
    """Packs trits along the last dimension; see `TwoBits` and `FivePerByte`.

    Attributes:
        name: how the codec is called in files and in the names of buffers.
        per_byte: trits a byte holds, p.
        bits: storage of a weight, in bits.
    """

    name: ClassVar[str]
    per_byte: ClassVar[int]

    @property
    def bits(self) -> float:
        return 8 / self.per_byte

    def length(self, trits: int) -> int:
        """Bytes that a row of so many trits takes."""
        return -(-trits // self.per_byte)

    def encode(self, codes: Tensor) -> Tensor:
        """Pack int8 trits (..., K) in {-1, 0, 1}; returns uint8 (..., ceil(K / p)).

        Raises:
            TypeError: the codes are not int8.
            ValueError: they have no dimension, or one of them is no trit.
        """
        if codes.dtype != torch.int8:
            raise TypeError(f"codes are {codes.dtype}: expected torch.int8 in -1, 0, 1 (a quantizer's trits(weight))")
        if not codes.dim():
            raise ValueError("codes have no dimension: expected (..., K); reshape a single one to (1,)")
        if codes.numel() and (codes.amin() < -1 or codes.amax() > 1):
            bad = codes[(codes < -1) | (codes > 1)].flatten()[0].item()
            raise ValueError(f"codes contain {bad}: expected only -1, 0 and 1")
        count = self.length(codes.shape[-1])
        filled = torch.nn.functional.pad(codes, (0, count * self.per_byte - codes.shape[-1]))
        return self._combine(filled.reshape(*codes.shape[:-1], self.per_byte, count))

    def decode(self, packed: Tensor, trits: int, *, checked: bool = False) -> Tensor:
        """Unpack uint8 (..., B) into the int8 (..., ``trits``) that `encode` was given, bit for bit.

        Args:
            packed: what `encode` returned, B = ceil(trits / p).
            trits: K, the length of a row.
            checked: the bytes have been through `check` already.

        Raises:
            TypeError, ValueError: as `check` does.
        """
        if not checked:
            self.check(packed, trits)
        rows = packed.reshape(-1, packed.shape[-1]) if packed.numel() else packed.new_empty(0, packed.shape[-1])
        planes = torch.empty(len(rows), self.per_byte, rows.shape[1], dtype=torch.int8, device=packed.device)
        # One long row (a convolution's weight) is cut along its bytes, many rows by the row.
        high = max(1, BLOCK // max(1, rows.shape[1]))
        wide = max(1, BLOCK // min(high, max(1, len(rows))))
        for top in range(0, len(rows), high):
            for left in range(0, rows.shape[1], wide):
                block = rows[top : top + high, left : left + wide]
                self._separate(block, planes[top : top + high, :, left : left + wide])
        return planes.flatten(1)[:, :trits].contiguous().view(*packed.shape[:-1], trits)

    def check(self, packed: Tensor, trits: int) -> None:
        """Refuse what `encode` cannot have returned for rows of ``trits`` trits.

        Raises:
            TypeError: the bytes are not uint8.
            ValueError: a row has the wrong number of bytes, or a byte stands for no trits.
        """
        if packed.dtype != torch.uint8:
            raise TypeError(f"packed weights are {packed.dtype}: expected torch.uint8, as encode returns them")
        expected = self.length(trits)
        if not packed.dim() or packed.shape[-1] != expected:
            raise ValueError(
                f"packed weights of shape {tuple(packed.shape)}: expected (..., {expected}), "
                f"the bytes of {trits} trits in codec {self.name!r}"
            )
        invalid = self._invalid(packed)
        if invalid.any():
            bad = packed[invalid].flatten()[0].item()
            raise ValueError(f"byte {bad} is no code of {self._means}: the weights are damaged or of another codec")

    _means: ClassVar[str]

    def _combine(self, planes: Tensor) -> Tensor:
        """int8 planes (..., p, B) to bytes (..., B)."""
        raise NotImplementedError

    def _separate(self, packed: Tensor, planes: Tensor) -> None:
        """Bytes (R, B) into int8 planes (R, p, B)."""
        raise NotImplementedError

    def _invalid(self, packed: Tensor) -> Tensor:
        """Where a byte is none that `_combine` makes."""
        raise NotImplementedError


class TwoBits(Codec):
    """Four trits a byte, each a two's complement number of two bits: 00 is 0, 01 is 1, 11 is -1; 10 is refused.

    Trit t of a byte stands at bits 2t and 2t + 1. Shifting it to the top of a signed integer and back again gives its
    value, and its lower bit is its magnitude.
    """

    name = "2bit"
    per_byte = 4
    _means = "four 2-bit trits (no field may be 10)"

    def _combine(self, planes: Tensor) -> Tensor:
        fields = (planes & 3).to(torch.uint8)
        packed = torch.zeros_like(fields[..., 0, :])
        for t in range(4):
            packed |= fields[..., t, :] << (2 * t)
        return packed

    def _separate(self, packed: Tensor, planes: Tensor) -> None:
        signed = packed.view(torch.int8)
        for t in range(4):
            planes[:, t] = (signed << (6 - 2 * t)).__irshift__(6)

    def _invalid(self, packed: Tensor) -> Tensor:
        return ((packed >> 1) & ~packed & 0b01010101) != 0


class FivePerByte(Codec):
    """Five trits a byte, as the digits (trit + 1) of a number in base 3, the first trit the lowest: 0 to 242.

    A byte of 243 or more is refused.
    """

    name = "base3"
    per_byte = 5
    _means = "five trits (expected at most 242)"

    def _combine(self, planes: Tensor) -> Tensor:
        digits = (planes + 1).to(torch.uint8)
        packed = torch.zeros_like(digits[..., 0, :])
        for t in reversed(range(5)):
            packed.mul_(3).add_(digits[..., t, :])
        return packed

    def _separate(self, packed: Tensor, planes: Tensor) -> None:
        rest = packed.to(torch.int16)
        for t in range(5):
            third = ((rest + 1).mul_(85)).__irshift__(8)  # rest // 3, exact for 0 <= rest <= 255, within 16 bits
            planes[:, t] = (rest - 1).sub_(third, alpha=3)
            rest = third

    def _invalid(self, packed: Tensor) -> Tensor:
        return packed >= 243


CODECS: Mapping[str, Codec] = {codec.name: codec for codec in (TwoBits(), FivePerByte())}


def codec(name: str) -> Codec:
    """The codec of that name, ``"2bit"`` or ``"base3"``; raises UnknownName for any other."""
    if name not in CODECS:
        raise UnknownName("codec", name, CODECS)
    return CODECS[name]
