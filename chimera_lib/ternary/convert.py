"""Give an existing network ternary layers: every nn.Linear and nn.Conv2d in it, wherever they stand."""

from __future__ import annotations

import copy
import fnmatch
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from chimera_lib.errors import CannotConvert, NothingToConvert
from chimera_lib.ternary import quantizers
from chimera_lib.ternary.layers import BIT, adopt, obstacle
from chimera_lib.ternary.quantizers.activations import activation as build_activation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Skip = Iterable[str] | Callable[[str, nn.Module], bool] | None
    Chosen = dict[str, type[nn.Module]]

Model = TypeVar("Model", bound=nn.Module)
HEAD = "lm_head"


def convert(
    model: Model,
    *,
    mode: str = "chimera",
    skip: Skip = None,
    activation: str | None = "int8",
    inplace: bool = False,
    **options: Any,
) -> Model:
    """A network with the same parameters whose linear and convolution layers multiply by ternary weights.

    Args:
        model: any nn.Module. Embeddings, norms, attention itself and transformers' ``Conv1D`` (of GPT-2) stay.
        mode: the weights' quantizer, one of ``quantizers.QUANTIZERS``.
        skip: which layers stay as they are, with all that is inside them: dotted names, their last parts, or patterns
            of either (``"model.layers.0.*"``, ``"fc"``, ``"*_proj"``), or a function of name and module. None skips
            the output head of a language model: the layer called ``lm_head`` and what a transformers model names by
            ``get_output_embeddings()``. With ``()`` nothing is skipped.
        activation: the layers' input quantizer: ``"int8"``, ``"as_published"`` (stops the gradient), or None.
        inplace: change ``model`` itself, whose Parameter objects stay the same, so that an optimizer built before
            goes on (the learnt scales of ``ttq`` and ``lsq`` are new to it). Else a deep copy is converted.
        options: those of the quantizer, e.g. ``alpha_target=.7``, ``scale="optimal"``.

    Returns the converted model; for a ``model`` that is a single layer, a new one that shares its parameters where
    ``inplace``. Tied parameters stay tied, a layer that stands in two places does so afterwards, and the training flag
    and hooks are kept. Load full-precision weights before, since learnt scales start from them; a converted model's
    own ``state_dict`` loads into a converted model.

    Raises NothingToConvert, CannotConvert (the message names the layer), UnknownName for mode or activation.
    """
    quantizers.known(mode)
    build_activation(activation)
    chosen = choose(model, skip)
    refuse_bypasses(model, chosen)
    for name, plain in chosen.items():
        problem = obstacle(model.get_submodule(name), plain)
        if problem:
            kind = type(model.get_submodule(name)).__name__
            raise CannotConvert(f"layer {name!r} ({kind}): {problem} (skip=[{name!r}])")
    if not inplace:
        model = copy.deepcopy(model)
    return replace(model, chosen, mode, activation, options)


def replace(model: Model, chosen: Chosen, mode: str, activation: str | None, options: dict[str, Any]) -> Model:
    """Put a ternary layer in the place of each of the ``chosen``: one for each layer, however many names it has."""
    made: dict[nn.Module, nn.Module] = {}
    for name, plain in chosen.items():
        old = model.get_submodule(name)
        if old not in made:
            made[old] = adopt(old, plain, mode, activation, options)
        if not name:
            return made[old]  # type: ignore[return-value]  # a single layer: of its own kind's subclass
        holder, _, last = name.rpartition(".")
        setattr(model.get_submodule(holder), last, made[old])
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and set(module.modules()) & set(made.values()):
            # In eval mode torch would hand both weights to one fused kernel. It asks this flag first: 0, no kernel.
            module.activation_relu_or_gelu = 0
    return model


def choose(model: nn.Module, skip: Skip) -> Chosen:
    """The layers to convert, by name: nn.Linear or nn.Conv2d for each. Raises NothingToConvert where there is none."""
    every = dict(model.named_modules(remove_duplicate=False))
    kinds = {name: plain for name, m in every.items() if (plain := plain_kind(m)) is not None}
    if not kinds:
        raise NothingToConvert(f"{type(model).__name__} has no nn.Linear or nn.Conv2d layer to convert")
    left_out = skipped(model, every, skip)
    chosen = {n: p for n, p in kinds.items() if not any(covers(s, n) for s in left_out)}
    fresh = {n: p for n, p in chosen.items() if not isinstance(every[n], tuple(BIT.values()))}
    if not fresh:
        reason = "is ternary already" if chosen else f"is skipped (skip={skip!r})"
        raise NothingToConvert(f"every one of the {len(chosen or kinds)} layers of {type(model).__name__} {reason}")
    return fresh


def plain_kind(module: nn.Module) -> type[nn.Module] | None:
    """nn.Linear or nn.Conv2d where ``module`` is one, or of a class derived from it."""
    return next((plain for plain in BIT if isinstance(module, plain)), None)


def covers(outer: str, name: str) -> bool:
    """Whether the module called ``name`` is the one called ``outer`` or inside it."""
    return name == outer or not outer or name.startswith(f"{outer}.")


def skipped(model: nn.Module, every: dict[str, nn.Module], skip: Skip) -> set[str]:
    """The names of the modules that ``skip`` fits. Raises NothingToConvert for a pattern that fits none."""
    if skip is None:
        named = getattr(model, "get_output_embeddings", lambda: None)()
        return {n for n, m in every.items() if n.rpartition(".")[2] == HEAD or (named is not None and m is named)}
    if callable(skip):
        return {name for name, module in every.items() if skip(name, module)}
    found: set[str] = set()
    for pattern in [skip] if isinstance(skip, str) else skip:
        fits = {n for n in every if n and any(fnmatch.fnmatchcase(p, pattern) for p in (n, n.rpartition(".")[2]))}
        if not fits:
            some = ", ".join([n for n, m in every.items() if plain_kind(m) is not None][:8])
            raise NothingToConvert(f"skip={pattern!r} fits no module of {type(model).__name__}; its layers: {some} ...")
        found |= fits
    return found


def refuse_bypasses(model: nn.Module, chosen: Chosen) -> None:
    """Raise CannotConvert where a chosen layer's weight is read by its owner, which never calls the layer."""
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.MultiheadAttention):
            inside = f"{name}.out_proj" if name else "out_proj"
            if inside in chosen:
                raise CannotConvert(
                    f"{inside!r}: nn.MultiheadAttention multiplies by this layer's weight without calling the layer, "
                    f"so quantizing it would do nothing; skip it (skip=[{inside!r}]), or use attention of nn.Linear"
                )
