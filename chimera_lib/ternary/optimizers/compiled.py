"""The step as one fused kernel by ``torch.compile``: one pass over memory, as in torch's fused AdamW."""

from __future__ import annotations

import functools
import types
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from chimera_lib.ternary.optimizers import agreement_state
from chimera_lib.ternary.optimizers.advance import Kind, Scalars, advance

if TYPE_CHECKING:
    from collections.abc import Callable

    Kernel = Callable[..., None]

__all__ = ["kernel", "numbers"]


@functools.lru_cache(maxsize=16)
def numbers(scalars: Scalars, decay: float, dtype: torch.dtype) -> Tensor:
    """The numbers of a step as one tensor, so that a schedule changes values and never the compiled code.

    Parameters of one group and step share it: to make one takes as long as to step some ten thousand elements.
    """
    return torch.tensor([*scalars._replace(root_inverse=1 / scalars.root), decay], dtype=dtype)


def _step(
    target: Tensor, grad: Tensor, m: Tensor, v: Tensor, psi: Tensor, packed: Tensor,
    places: Tensor | None, key: Tensor | None, kind: Kind, clip: bool, gentle: bool,
) -> None:  # fmt: skip
    """target ← decay·target + Δ; for a bucket, whose ``target`` is its gradient, target ← Δ."""
    *scalars, decay = packed.unbind()
    noise = None if places is None or key is None else agreement_state.uniform(places.clone(), key)
    delta = advance(grad, m, v, psi, kind, Scalars(*scalars), clip=clip, gentle=gentle, noise=noise)
    if target is grad:
        target.copy_(delta)
    else:
        target.copy_(target * decay + delta)


@functools.cache
def kernel(kind: Kind, device: str, clip: bool, gentle: bool) -> Kernel | None:
    """The compiled step for flat tensors of any length, or None (with a warning) where nothing can be compiled.

    Tried on seven elements first, so that a machine without a C++ compiler is noticed before any state is touched.
    """
    code = _step.__code__.replace(
        co_name=f"_step_{'_'.join(kind)}_{clip}_{gentle}"
    )  # torch counts recompilations by code object
    compiled = torch.compile(
        types.FunctionType(code, globals(), argdefs=(kind, clip, gentle)), dynamic=True, fullgraph=True
    )
    grad, m, v, target = (torch.zeros(7, device=device) for _ in range(4))
    psi = torch.zeros(7, device=device, dtype=torch.int8 if kind.storage == "int8" else torch.float32)
    places, key = torch.zeros(7, dtype=torch.int32, device=device), torch.zeros((), dtype=torch.int32, device=device)
    draws = (kind.storage, kind.rounding) == ("int8", agreement_state.ROUNDINGS[0])
    packed = torch.ones(len(Scalars._fields) + 1)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's compiler imports what torch deprecates
            for where in (target, grad):
                compiled(where, grad, m, v, psi, packed, places if draws else None, key if draws else None)
    except (RuntimeError, ImportError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"compiled=True: torch.compile failed on {device} ({line}); the same steps are run uncompiled: "
            "install a C++ compiler (g++, or name one in CXX), or leave compiled=False",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return compiled
