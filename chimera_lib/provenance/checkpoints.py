"""Checkpoints against models: what each holds by name, what differs, and loading that accepts no difference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance import weight_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

Manifest = dict[str, tuple[tuple[int, ...], str]]  # key -> shape, dtype as in "float32"
Model = TypeVar("Model", bound="nn.Module")
SHOWN = 3  # keys named in a message


def manifest(model: nn.Module | Mapping[str, torch.Tensor]) -> Manifest:
    """Key -> (shape, dtype) of a model or of a table of tensors; a model may lie on the meta device."""
    tensors: Mapping[str, torch.Tensor] = model.state_dict() if isinstance(model, torch.nn.Module) else model
    return {key: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in tensors.items()}


def fingerprint(table: Manifest) -> str:
    """The sha256 of one line ``key shape dtype`` a tensor, sorted by key: equal for equal manifests."""
    lines = (f"{key} {tuple(shape)} {dtype}" for key, (shape, dtype) in sorted(table.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass
class Report:
    """How the tensors of a file differ from those of a model; empty where it fits."""

    missing: list[str] = field(default_factory=list)  # keys of the model that the file lacks
    surplus: list[str] = field(default_factory=list)  # keys of the file that the model lacks
    misshapen: list[str] = field(default_factory=list)  # "key: shape of the file, expected that of the model"
    mistyped: list[str] = field(default_factory=list)  # "key: dtype ..." where one is of floats and the other is not

    @property
    def fits(self) -> bool:
        """Whether the file can be loaded."""
        return self.count == 0

    @property
    def count(self) -> int:
        """How many tensors differ."""
        return len(self.missing) + len(self.surplus) + len(self.misshapen) + len(self.mistyped)

    def __str__(self) -> str:
        """One line, with the first few of each kind."""
        kinds = {name: getattr(self, name) for name in ("missing", "surplus", "misshapen", "mistyped")}
        said = []
        for name, items in kinds.items():
            if items:
                rest = f", and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
                said.append(f"{len(items)} {name} ({', '.join(items[:SHOWN])}{rest})")
        return "; ".join(said) or "fits"


def compare(found: Manifest, expected: Manifest) -> Report:
    """What of a file's manifest differs from a model's. Floats of another width are no difference: they are cast."""
    report = Report(missing=[k for k in expected if k not in found], surplus=[k for k in found if k not in expected])
    for key in expected.keys() & found.keys():
        (shape, dtype), (own_shape, own_dtype) = found[key], expected[key]
        if tuple(shape) != tuple(own_shape):
            report.misshapen.append(f"{key}: {tuple(shape)}, expected {tuple(own_shape)}")
        elif dtype != own_dtype and not ("float" in dtype and "float" in own_dtype):
            report.mistyped.append(f"{key}: {dtype}, expected {own_dtype}")
    report.misshapen.sort()
    report.mistyped.sort()
    return report


def load(model: Model, path: Path | str, *, part: str | None = None, sha256: str | None = None) -> Model:
    """Give a model the weights of a file, all of them and no others, in the dtypes that the model has.

    Args:
        model: on any device. One built under ``torch.device("meta")`` gets its memory here, on the CPU.
        path: see `weight_files.read`.
        part: which of several tables in the file, such as ``"trainer/vae_local"``; by default the one that fits.
        sha256: the file's checksum, if known.

    Raises:
        ChimeraError: the file does not fit the model, several of its tables do, its weights are not finite, or the
            model has tensors that no checkpoint holds and that lie on the meta device.
        AssetMissing, ChecksumMismatch: as `weight_files.read` does.
    """
    expected = manifest(model)
    table = _choose(weight_files.read(path, sha256=sha256), expected, path, part)
    report = compare(manifest(table), expected)
    if not report.fits:
        raise ChimeraError(f"{path} does not fit {type(model).__name__}: {report}; is it the model's own checkpoint?")
    # Buffers may rightly hold infinities (attention masks); weights may not.
    broken = [key for key, _ in model.named_parameters() if not bool(table[key].isfinite().all())]
    if broken:
        raise ChimeraError(f"{path} holds weights that are not finite ({', '.join(broken[:SHOWN])}); fetch it again")
    _assign(model, table)
    return model


def _choose(
    tables: dict[str, dict[str, torch.Tensor]], expected: Manifest, path: Path | str, part: str | None
) -> dict[str, torch.Tensor]:
    """The table of that name; without one the table that fits, or else that fits best."""
    if part is not None:
        if part not in tables:
            raise ChimeraError(f"{path} has no part {part!r}; it has {', '.join(map(repr, tables))}")
        return tables[part]
    differences = {where: compare(manifest(table), expected).count for where, table in tables.items()}
    fitting = [where for where, count in differences.items() if count == 0]
    if len(fitting) > 1:
        raise ChimeraError(f"{path} has several parts that fit: {', '.join(map(repr, fitting))}; name one as `part`")
    return tables[min(differences, key=differences.__getitem__)]


def _assign(model: nn.Module, table: dict[str, torch.Tensor]) -> None:
    """Copy a table that fits into the model."""
    own = model.state_dict()
    if not any(value.is_meta for value in own.values()):
        model.load_state_dict(table, strict=True)
        return
    # Copies, as the tensors of a file that is mapped into memory change with the file.
    model.load_state_dict({key: value.to(own[key].dtype, copy=True) for key, value in table.items()}, assign=True)
    unset = [key for key, value in model.named_buffers() if value.is_meta]
    if unset:
        raise ChimeraError(
            f"{type(model).__name__} has {', '.join(unset[:SHOWN])} on the meta device and in no checkpoint; build it "
            "on the CPU"
        )
