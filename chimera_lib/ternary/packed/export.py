"""Packed models as safetensors files: no pickle, written whole or not at all, refused where damaged.

The tensors are those of the packed model's ``state_dict``. The metadata hold ``format`` (always
``chimera-ternary-packed``), ``version``, ``layers`` (JSON: for each packed layer its kind, codec, weight's shape,
scales, dtype and activation quantizer), ``tied`` (JSON: names of tensors that are others'), and ``sha256`` of all this
and of the tensors' bytes. The sum finds damage, not malice: whoever can write a file can write a sum.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.packed.codes import CODECS
from chimera_lib.ternary.packed.layers import PACKED, NothingToPack, exchanged
from chimera_lib.ternary.packed.storage import PackedTernary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Model = TypeVar("Model", bound=nn.Module)
FORMAT, VERSION = "chimera-ternary-packed", "1"
KINDS: dict[str, type[nn.Module]] = {"linear": nn.Linear, "conv2d": nn.Conv2d}
DIMENSIONS = {"linear": 2, "conv2d": 4}  # of a weight
DTYPES = ("float16", "bfloat16", "float32", "float64")


class BadPackedFile(ChimeraError):  # noqa: N818  (the class says what went wrong, as those of chimera_lib.errors do)
    """A file that is no packed model, is damaged, or does not fit the model it is loaded into."""


def export(model: nn.Module, path: Path | str) -> int:
    """Write a packed model (see `chimera_lib.ternary.packed.layers.pack`) to a safetensors file, whole or not at all.

    Tied tensors are written once. Returns the file's size in bytes; an older file of that name is replaced.

    Raises NothingToPack for a model without packed layers, OSError where the file cannot be written.
    """
    from safetensors.torch import save_file

    path = Path(path)
    every = dict(model.named_modules(remove_duplicate=False))
    layers = {name: module.config() for name, module in every.items() if isinstance(module, PackedTernary)}
    if not layers:
        raise NothingToPack(f"{type(model).__name__} has no packed layer: export(pack(model), path)")
    tensors, tied = distinct(model.state_dict())
    metadata = {"format": FORMAT, "version": VERSION, "layers": json.dumps(layers), "tied": json.dumps(tied)}
    metadata["sha256"] = checksum(metadata, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def load(path: Path | str, skeleton: Model | Callable[[], Model]) -> Model:
    """Read a packed model from the file that `export` wrote.

    Args:
        path: the file.
        skeleton: a model of the same architecture, or what builds one: with plain, ternary or packed layers, of any
            weights. It stays as it is.

    Returns a packed copy of ``skeleton`` in eval mode with the file's weights, on the devices of the skeleton's.

    Raises BadPackedFile for a file that is missing, truncated, altered or of another format or version, and for a
    skeleton that does not fit.
    """
    path = Path(path)
    tensors, layers = read(path)
    plan = cast("Model", skeleton if isinstance(skeleton, nn.Module) else skeleton())
    made: dict[int, nn.Module] = {}
    for name, config in layers.items():
        layer = part(plan, name, config, path)
        if id(layer) not in made:
            device = next((t.device for t in (*layer.parameters(), *layer.buffers())), torch.device("cpu"))
            made[id(layer)] = PACKED[KINDS[config["kind"]]].from_config(layer, config).to(device)
    model = exchanged(plan, made)
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            raise BadPackedFile(f"{path}: {name} is {tensor.dtype}, the model's {own[name].dtype}: use model.to(dtype)")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        said = " ".join(str(error).split())  # torch's error has a line for each kind of misfit
        raise BadPackedFile(f"{path} does not fit {type(plan).__name__}: {said}") from error
    return model


def part(plan: nn.Module, name: str, config: Mapping[str, Any], path: Path) -> nn.Module:
    """The layer of the skeleton that a packed one replaces. Raises BadPackedFile where it is none of that shape."""
    layer = dict(plan.named_modules(remove_duplicate=False)).get(name)
    kind, shape = KINDS[config["kind"]], tuple(config["shape"])
    expected = f"{path} has a packed {kind.__name__} of weight {shape} called {name!r}"
    if layer is None:
        raise BadPackedFile(f"{expected}, {type(plan).__name__} nothing: build the architecture that was exported")
    if not isinstance(layer, kind):
        raise BadPackedFile(f"{expected}, which is a {type(layer).__name__} in {type(plan).__name__}")
    found = tuple(layer.weight_shape if isinstance(layer, PackedTernary) else cast("Tensor", layer.weight).shape)
    if found != shape:
        raise BadPackedFile(f"{expected}, which is {found} in {type(plan).__name__}: were its sizes others?")
    if any(tensor.is_meta for tensor in (*plan.parameters(), *plan.buffers())):
        raise BadPackedFile(f"{type(plan).__name__} is on the meta device, which holds no weights: build it on another")
    return layer


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """The tensors of a file, tied ones under each of their names, and its layers' configurations; both checked."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise BadPackedFile(f"no file at {path}: write one with export(pack(model), path)")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadPackedFile(f"{path} is no whole safetensors file ({error}): copy or export it again") from error
    if metadata.get("format") != FORMAT:
        raise BadPackedFile(f"{path} is a safetensors file, but no packed model: write one with export(pack(model))")
    if metadata.get("version") != VERSION:
        raise BadPackedFile(
            f"{path} is of version {metadata.get('version')}, this reads {VERSION}: use the chimera_lib that wrote it"
        )
    if metadata.get("sha256") != checksum(metadata, tensors):
        raise BadPackedFile(f"{path} has been altered since it was written (its sha256 differs): export it again")
    layers, tied = described(metadata, path)
    if strange := [other for other in tied.values() if other not in tensors]:
        raise BadPackedFile(f"{path} ties a tensor to {strange[0]!r}, which it does not hold: export it again")
    tensors |= {name: tensors[other] for name, other in tied.items()}
    return tensors, layers


def described(metadata: Mapping[str, str], path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The layers' configurations and the ties of a file's metadata, each of which is something `export` can write.

    The sum does not vouch for them: another program can write a right one.
    """
    try:
        layers, tied = (dict(json.loads(metadata[key])) for key in ("layers", "tied"))
        wrong = next((name for name, config in layers.items() if not possible(config)), None)
    except (ValueError, TypeError, KeyError) as error:
        raise BadPackedFile(
            f"{path} does not describe its layers as export does ({error!r}): export it again"
        ) from error
    if wrong is not None:
        raise BadPackedFile(f"{path} describes layer {wrong!r} as {layers[wrong]}: no layer that export can write")
    return layers, tied


def possible(config: Mapping[str, Any]) -> bool:
    """Whether a packed layer can have this configuration; raises KeyError or TypeError where an entry is missing."""
    shape, scale = config["shape"], config["scale_shape"]
    return (
        config["kind"] in KINDS
        and config["codec"] in CODECS
        and len(shape) == DIMENSIONS[config["kind"]]
        and all(type(size) is int and size >= 0 for size in shape)
        and (not scale or len(scale) == len(shape))
        and all(size == 1 or size == full for size, full in zip(scale, shape, strict=False))
        and config["scales"] in (1, 2)
        and config["dtype"] in DTYPES
        and config["activation"] in (None, "int8")
    )


def distinct(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The contiguous tensors of a state, those that are one and the same once; and of which tensor the others are."""
    first: dict[tuple[Any, ...], str] = {}
    tensors, tied = {}, {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first:
            tied[name] = first[place]
            continue
        first[place] = name
        # A copy where the storage is larger than the tensor, so that views of one storage do not share it.
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        tensors[name] = tensor.detach().contiguous() if whole else tensor.detach().clone().contiguous()
    return tensors, tied


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the metadata (without the sum) and over every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for key in ("format", "version", "layers", "tied"):
        digest.update(f"{key}={metadata.get(key)}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
