"""Reading a file of weights without trusting it: nothing in it is run, and what is damaged is refused by name.

`.pth`, `.pt`, `.bin` and `.ckpt` go through ``torch.load(weights_only=True)``, `.safetensors` through safetensors.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.errors import AssetMissing, ChecksumMismatch, ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TORCH = (".pth", ".pt", ".bin", ".ckpt")
AGAIN = "fetch it again"
# The first bytes of what a failed download often leaves in the place of weights.
IMPOSTORS = {
    b"version https://git-lfs": "a Git LFS pointer and not the weights themselves; run `git lfs pull`",
    b"<": "a web page; the link was not to the file itself, or wanted a login",
}
# What torch's restricted unpickler says about a global that is no tensor.
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
# What zipfile and torch.load raise on the way through bytes that nobody wrote so (found by changing bytes at random).
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: Path | str, *, sha256: str | None = None) -> dict[str, dict[str, torch.Tensor]]:
    """The tables of tensors in a file, on the CPU: where in the file -> key -> tensor.

    A plain state dict is one table, at ``""``. What a training run saved holds several, at ``"trainer/vae_local"`` and
    the like. Files of torch's zip format are mapped into memory, so that a tensor is read when it is used, after every
    byte was checked against the checksums in the file. safetensors and torch's older format have no such checksums: a
    changed weight shows there by `sha256` alone.

    Args:
        path: the file.
        sha256: its checksum in hexadecimal, if known; the only sure sign of who made it.

    Raises:
        AssetMissing: there is no such file.
        ChecksumMismatch: it has another checksum.
        ChimeraError: its ending is unknown, it is empty, truncated or damaged, it holds Python objects other than
            tensors and plain containers, or no tensors at all.
    """
    path = Path(path)
    if not path.is_file():
        raise AssetMissing(f"no weights at {path}; expected a file (.pth, .bin or .safetensors)")
    if sha256 is not None:
        _verify(path, sha256)
    _refuse_impostors(path)
    if path.suffix == ".safetensors":
        content: Any = _read_safetensors(path)
    elif path.suffix in TORCH:
        content = _read_torch(path)
    else:
        raise ChimeraError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(TORCH)}, .safetensors")
    found = dict(_tables(content))
    if not found:
        raise ChimeraError(f"{path} holds {type(content).__name__} and no table of tensors by name")
    return found


def _verify(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ChecksumMismatch(f"{path} has the sha256 {found}; expected {sha256}: {AGAIN}, or correct the checksum")


def _refuse_impostors(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if not head:
        raise ChimeraError(f"{path} is empty; {AGAIN}")
    for start, what in IMPOSTORS.items():
        if head.startswith(start):
            raise ChimeraError(f"{path} is {what}")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ChimeraError(f"{path} is truncated or damaged ({error}); {AGAIN}") from error


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, right before the refusal
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        named = GLOBAL.search(str(error))
        what = f"the Python object {named[1]}" if named else "something else than tensors in plain containers"
        raise ChimeraError(
            f"{path} holds {what}, which could run code and is not loaded; expected tensors alone: save the state "
            "dict, or as .safetensors"
        ) from error
    except DAMAGE as error:
        raise ChimeraError(f"{path} is truncated or damaged ({str(error).partition('. ')[0]}); {AGAIN}") from error


def _check_zip(path: Path) -> None:
    """Refuse a file cut short, or with a byte changed: torch does not look at the checksums that it writes."""
    try:
        if not zipfile.is_zipfile(path):  # its table of contents, which stands at the end, is missing
            raise ChimeraError(f"{path} is truncated ({path.stat().st_size} bytes and no table of contents); {AGAIN}")
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except DAMAGE as error:
        raise ChimeraError(f"{path} is damaged ({error}); {AGAIN}") from error
    if bad is not None:
        raise ChimeraError(f"{path} is damaged: the content of its member {bad} has another checksum; {AGAIN}")


def _tables(content: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every mapping of names to tensors and nothing else, with its place; a training run's lie up to three deep."""
    if not isinstance(content, dict) or not content or depth > 3:
        return
    if all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()):
        yield where, unwrapped(content)
        return
    for key, value in content.items():
        yield from _tables(value, f"{where}/{key}" if where else str(key), depth + 1)


def unwrapped(table: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without the prefixes that torch's DataParallel and compile put before all keys."""
    result = dict(table)
    while shared := [one for one in ("module.", "_orig_mod.") if all(key.startswith(one) for key in result)]:
        result = {key.removeprefix(shared[0]): value for key, value in result.items()}
    return result
