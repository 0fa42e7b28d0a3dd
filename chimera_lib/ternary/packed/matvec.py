"""Products with packed ternary weights: one compiled unpack-and-reduce, and `torch._int_mm` for batches.

**One vector.** A product with a 4096 x 4096 weight waits for memory: fp32 reads 64 MiB, 2 bits a weight 4 MiB. The
kernels below are plain torch, compiled by `torch.compile` into one loop that reads bytes, unpacks in registers,
multiplies and adds. They are compiled once for all shapes (symbolic sizes), again when the number of threads changes.
The first product of a process takes some seconds, up to half a minute where torch's cache on disk
(``TORCHINDUCTOR_CACHE_DIR``, by default in the temporary folder) does not have the kernel yet; `warm_up` takes them
beforehand. Where there is no C++ compiler the weights are unpacked and multiplied by `integer_product`.

**A batch** is bound by arithmetic: weights are unpacked to int8, and int8 is multiplied by int8.

**Exactness.** Of int8 activations and trits every product is in -127 ... 127 and every sum of K of them is a whole
number below 127 K: int32 holds it for K <= ``LONGEST``, in any order of adding. Compiled, eager and batched products of
int8 activations are therefore equal bit for bit. (Processors without VNNI add pairs of products in 16 bits and may
overflow, once one factor is shifted by 128 to be without sign. With trits they cannot: 2 x 255 x 1 and 2 x 129 x 127
are both below 2^15.)
"""

from __future__ import annotations

import functools
import warnings
from types import FunctionType
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from chimera_lib.ternary.packed.codes import CODECS, Codec

if TYPE_CHECKING:
    from collections.abc import Callable

    Kernel = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]

LONGEST = (2**31 - 1) // (2 * 127)  # K of which the sum and the sum of magnitudes still add up in int32: 8,454,659
WORTH = 1 << 20  # weights below which unpacking takes too little time for a compiled kernel to save any


def two_bits(packed: Tensor, x: Tensor) -> tuple[Tensor, None]:
    """sum_k code[n, k] x[k] over bytes (N, B) of codec "2bit" and x (4, B), of x's dtype, float32 or int32; (N,)."""
    fields, total = packed.to(torch.int32), torch.zeros((), dtype=x.dtype)
    for t in range(4):
        total = total + ((fields << (30 - 2 * t)) >> 30).to(x.dtype) * x[t]
    return total.sum(-1, dtype=x.dtype), None


def two_bits_both(packed: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """As `two_bits`, and sum_k |code[n, k]| x[k] with it."""
    fields, total = packed.to(torch.int32), torch.zeros((), dtype=x.dtype)
    magnitude = total
    for t in range(4):
        total = total + ((fields << (30 - 2 * t)) >> 30).to(x.dtype) * x[t]
        magnitude = magnitude + ((fields >> (2 * t)) & 1).to(x.dtype) * x[t]
    return total.sum(-1, dtype=x.dtype), magnitude.sum(-1, dtype=x.dtype)


def five_per_byte(packed: Tensor, x: Tensor) -> tuple[Tensor, None]:
    """As `two_bits`, over bytes of codec "base3" and x (5, B)."""
    rest, total = packed.to(torch.int32), torch.zeros((), dtype=x.dtype)
    for t in range(5):
        third = (rest * 171) >> 9  # rest // 3, exact for 0 <= rest <= 255
        total = total + (rest - 3 * third - 1).to(x.dtype) * x[t]
        rest = third
    return total.sum(-1, dtype=x.dtype), None


def five_per_byte_both(packed: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """As `five_per_byte`, and the sum with magnitudes."""
    rest, total = packed.to(torch.int32), torch.zeros((), dtype=x.dtype)
    magnitude = total
    for t in range(5):
        third = (rest * 171) >> 9
        code = rest - 3 * third - 1
        total = total + code.to(x.dtype) * x[t]
        magnitude = magnitude + (code & 1).to(x.dtype) * x[t]
        rest = third
    return total.sum(-1, dtype=x.dtype), magnitude.sum(-1, dtype=x.dtype)


KERNELS: dict[tuple[str, bool], Kernel] = {
    ("2bit", False): two_bits,
    ("2bit", True): two_bits_both,
    ("base3", False): five_per_byte,
    ("base3", True): five_per_byte_both,
}


@functools.cache
def compiled(name: str, both: bool, dtype: torch.dtype, threads: int, inference: bool) -> Kernel:  # noqa: ARG001
    """The kernel of a codec, compiled for all shapes at its first call: one for each way in which it can be called.

    Torch compiles a function again for another dtype, number of threads or inference mode, and gives up on it after
    the eighth time. It counts by code object, so each of ours gets one of its own.
    """
    kernel = cast("FunctionType", KERNELS[name, both])
    own = FunctionType(kernel.__code__.replace(), kernel.__globals__, kernel.__name__)
    return torch.compile(own, dynamic=True, fullgraph=True)


def multiply(packed: Tensor, x: Tensor, name: str, both: bool) -> tuple[Tensor, Tensor | None]:
    """The compiled product of bytes (N, B) with x (p, B)."""
    kernel = compiled(name, both, x.dtype, torch.get_num_threads(), torch.is_inference_mode_enabled())
    with torch.no_grad():
        return kernel(packed, x)


@functools.cache
def obstacle() -> str:
    """Why kernels cannot be compiled here, empty where they can: compiles one and tries it, once in a process.

    Nothing else is known to tell: a compiler on the path may lack headers, and the cache may be read-only.
    """
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-1, 2, (3, 40), generator=generator, dtype=torch.int8)
    x = torch.randint(-127, 128, (40,), generator=generator, dtype=torch.int32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's compiler imports what torch deprecates
            found, _ = multiply(CODECS["2bit"].encode(codes), x.view(4, 10), "2bit", False)
    except (RuntimeError, OSError, ImportError) as error:  # torch's own errors of compiling are RuntimeErrors
        return f"torch.compile fails: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if not torch.equal(found, codes.int() @ x):
        return "torch.compile makes a kernel whose product is wrong"
    return ""


def use_eager(reason: str = "") -> None:
    """Have every product from now on taken without compiled kernels, or, without a reason, as detected."""
    _forced.clear()
    if reason:
        _forced.append(reason)


_forced: list[str] = []


def can_compile() -> bool:
    """Whether products with one vector run through compiled kernels; someone else's graph compiles them anyhow."""
    return torch.compiler.is_compiling() or (not _forced and not obstacle())


def info() -> dict[str, str]:
    """What products with packed weights run on here; compiles the first kernel where none has been.

    ``kernel`` is "compiled" or "eager", ``reason`` says why it is eager, and is empty otherwise.
    """
    reason = _forced[0] if _forced else obstacle()
    return {
        "kernel": "eager" if reason else "compiled",
        "reason": reason,
        "batches": "torch._int_mm",
        "threads": str(torch.get_num_threads()),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def suits(packed: Tensor, weights: int) -> bool:
    """Whether a product with one vector is worth a compiled kernel: a large weight on the CPU, of some rows and bytes.

    A dimension of 1 would be compiled for by itself.
    """
    return weights >= WORTH and min(packed.shape) > 1 and packed.device.type == "cpu" and can_compile()


def matvec(packed: Tensor, x: Tensor, codec: Codec, *, both: bool = False) -> tuple[Tensor, Tensor | None]:
    """sum_k code[n, k] x[k] for every packed row, by a compiled kernel.

    Args:
        packed: uint8 (N, ceil(K / p)), as ``codec.encode`` returns it for codes (N, K).
        x: (K,), float32, or int32 of at most 127 in magnitude, for which the sums are exact up to K of ``LONGEST``.
        codec: that of the weights.
        both: give sum_k |code[n, k]| x[k] too, which two different scales need.

    Returns:
        One or two (the second else None) of shape (N,) and x's dtype.
    """
    x = torch.nn.functional.pad(x, (0, packed.shape[1] * codec.per_byte - x.shape[0]))
    x = x.view(codec.per_byte, packed.shape[1])
    if torch.compiler.is_compiling():  # inside of someone else's graph, of which it becomes a part
        return KERNELS[codec.name, both](packed, x)
    return multiply(packed, x, codec.name, both)


def integer_product(levels: Tensor, codes: Tensor) -> Tensor:
    """levels (R, K) times codes (N, K) transposed, both int8, exactly: int32 (R, N).

    On a CPU `torch._int_mm` takes any shape. On CUDA it wants R > 16 and K and N in eights; other shapes and
    devices take a float product, in float32 where 127 K is below 2^24 and therefore exact, else in float64.
    """
    rows, length = levels.shape
    if not levels.numel() or not codes.numel():
        return levels.new_zeros(rows, len(codes), dtype=torch.int32)
    if length == 1 or len(codes) == 1:
        return (levels.to(torch.int32)[:, None] * codes.to(torch.int32)).sum(-1, dtype=torch.int32)
    if levels.device.type == "cpu":
        # Torch 2.13 takes a size from the strides (pytorch/pytorch issue 195066), and a dimension of one, left out
        # above, may have any: a lone row gets another below it.
        filled = torch.nn.functional.pad(levels, (0, 0, 0, 1)) if rows == 1 else levels.contiguous()
        return torch._int_mm(filled, codes.contiguous().t())[:rows]
    if levels.device.type == "cuda" and rows > 16 and length % 8 == 0 and len(codes) % 8 == 0:
        return torch._int_mm(levels.contiguous(), codes.t())
    exact = torch.float32 if 127 * length < 2**24 else torch.float64
    return (levels.to(exact) @ codes.to(exact).t()).to(torch.int32)


def warm_up(codec: str = "2bit", *, both: bool = False) -> None:
    """Compile the kernels of a codec now, for int8 activations and for float ones, where they can be compiled."""
    if can_compile():
        one = CODECS[codec]
        packed = torch.zeros(3, 10, dtype=torch.uint8)
        for dtype in (torch.int32, torch.float32):
            matvec(packed, torch.zeros(10 * one.per_byte, dtype=dtype), one, both=both)
