"""The user's pictures: a folder of image files of any kind, read so that every backend gets the same bytes."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chimera_lib.errors import BadImage, ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL.Image import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MODES = {"L": "grey", "LA": "grey with alpha", "P": "palette", "RGBA": "RGB with alpha", "1": "black and white"}
MODES |= {"PA": "palette with alpha", "CMYK": "CMYK", "YCbCr": "YCbCr", "RGB": "RGB"}
LARGEST = 64_000_000  # pixels of one file; more would rather be a bomb than a picture
SMALL = 64 * 64  # pixels of a picture of which 32 make a chunk; of larger ones, 8 do


class Pictures(Protocol):
    """Pictures with names, handed out chunk by chunk, so that a folder need not fit into memory."""

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Names (n,) and pictures uint8 (n, H, W, C), in order."""
        ...

    def load(self, name: str) -> np.ndarray:
        """One picture by its name, uint8 (H, W, C)."""
        ...


def chunk_size(shape: tuple[int, int, int]) -> int:
    """Pictures of ``shape`` (C, H, W) in a chunk."""
    return 32 if shape[1] * shape[2] <= SMALL else 8


@dataclass(frozen=True)
class Stack:
    """Pictures that are in memory already, uint8 (N, H, W, C); names are ``image 0`` and so on where none are given."""

    images: np.ndarray
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or not len(self.images):
            raise BadImage(f"images are {self.images.dtype} {self.images.shape}; expected uint8 (N, H, W, C), N >= 1")
        if not len(self.names):
            object.__setattr__(self, "names", [f"image {i}" for i in range(len(self.images))])
        if len(set(self.names)) != len(self.images):
            raise ChimeraError(
                f"{len(set(self.names))} different names for {len(self.images)} images: expected one each"
            )

    def __len__(self) -> int:
        return len(self.images)

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """See ``Pictures``."""
        _, height, width, channels = self.images.shape
        size = chunk_size((channels, height, width))
        for first in range(0, len(self.images), size):
            yield list(self.names[first : first + size]), self.images[first : first + size]

    def load(self, name: str) -> np.ndarray:
        """See ``Pictures``."""
        return self.images[list(self.names).index(name)]


@dataclass
class Folder:
    """The readable pictures of a folder, each brought to a network's input shape.

    Attributes:
        root: the folder.
        shape: (C, H, W) of the network, C being 3 (RGB) or 1 (grey).
        resize: crop the centre to the network's proportions and scale it (bicubic), instead of refusing other sizes.
        names: paths relative to ``root`` with ``/`` between, sorted.
        skipped: name -> why it could not be read; grows while chunks are read.
        converted: name -> what it was, for pictures of another colour mode than the network's.
    """

    root: Path
    shape: tuple[int, int, int]
    resize: bool = False
    names: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    converted: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def chunks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """See ``Pictures``; a file that turns out to be damaged goes to ``skipped``."""
        size = chunk_size(self.shape)
        names: list[str] = []
        images: list[np.ndarray] = []
        for name in self.names:
            try:
                images.append(self.load(name))
            except BadImage as error:
                self.skipped[name] = str(error)
                continue
            names.append(name)
            if len(names) == size:
                yield names, np.stack(images)
                names, images = [], []
        if names:
            yield names, np.stack(images)

    def load(self, name: str) -> np.ndarray:
        """See ``Pictures``; raises BadImage with the reason alone for a damaged file."""
        channels, height, width = self.shape
        wanted = "RGB" if channels == 3 else "L"
        with _opened(self.paths[name]) as image:
            try:
                image.load()
            except (OSError, SyntaxError, ValueError) as error:
                raise BadImage(f"damaged ({error})") from error
            if image.mode != wanted:
                self.converted[name] = MODES[image.mode]
            converted = image.convert(wanted)
        if self.resize:
            converted = fitted(converted, width, height)
        pixels = np.asarray(converted)
        return np.ascontiguousarray(pixels if channels == 3 else pixels[:, :, None])


def folder(
    root: Path,
    shape: tuple[int, int, int],
    *,
    resize: bool = False,
    limit: int | None = None,
    without: Path | None = None,
) -> Folder:
    """Look through ``root`` and everything below it; judges headers only, pixels are read chunk by chunk.

    Grey, palette and alpha pictures are converted (alpha is dropped) and noted; 16-bit and damaged files are skipped
    and listed; files of other kinds are ignored. Photographs are taken as they are stored: an orientation in their
    EXIF data is not followed, as model pipelines do not either.

    Args:
        root: the folder.
        shape: (C, H, W) that the network takes.
        resize: see ``Folder``.
        limit: the first so many readable pictures in the order of their names; all where None.
        without: a folder whose files are left out, such as the output folder.

    Raises ChimeraError where there is no such folder or nothing in it can be read, BadImage where a picture has
    another size and ``resize`` is not set.
    """
    if not root.is_dir():
        raise ChimeraError(f"{root}: no such folder; name one that holds images ({', '.join(SUFFIXES)})")
    if shape[0] not in (1, 3):
        raise ChimeraError(f"the network takes {shape[0]} channels; image files have 3 (RGB) or 1 (grey)")
    found = Folder(root, shape, resize)
    other: list[tuple[str, tuple[int, int]]] = []
    for name, path in _files(root, without):
        try:
            with _opened(path) as image:
                size = image.size
        except BadImage as error:
            found.skipped[name] = str(error)
            continue
        found.names.append(name)
        found.paths[name] = path
        if size != (shape[2], shape[1]):
            other.append((name, size))
        if len(found.names) == limit:
            break
    if not found.names:
        raise _nothing(found)
    if other and not resize:
        name, (width, height) = other[0]
        raise BadImage(
            f"{name}: {width}x{height} pixels; the network takes {shape[2]}x{shape[1]} ({len(other)} of "
            f"{len(found)} images have another size): give images of that size, or --resize to crop and scale them"
        )
    return found


def first_size(root: Path) -> tuple[int, int]:
    """(height, width) of the first readable picture in ``root``, for a model that does not say what it takes."""
    if not root.is_dir():
        raise ChimeraError(f"{root}: no such folder; name one that holds images ({', '.join(SUFFIXES)})")
    found = Folder(root, (3, 1, 1))
    for name, path in _files(root, None):
        try:
            with _opened(path) as image:
                return image.height, image.width
        except BadImage as error:
            found.skipped[name] = str(error)
    raise _nothing(found)


def fitted(image: Image, width: int, height: int) -> Image:
    """The largest centred part of the wanted proportions, scaled to (width, height) by Pillow's bicubic filter."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Resampling.BICUBIC)


def _nothing(found: Folder) -> ChimeraError:
    """There is no picture: say what there is instead."""
    if not found.skipped:
        return ChimeraError(f"{found.root}: no image in it; expected files that end in {', '.join(SUFFIXES)}")
    name, why = next(iter(found.skipped.items()))
    return ChimeraError(f"{found.root}: none of {len(found.skipped)} images can be read; the first, {name}: {why}")


def _files(root: Path, without: Path | None) -> Iterator[tuple[str, Path]]:
    """Names and paths of the image files below ``root``, sorted by name; hidden ones are left out."""
    left_out = without.resolve() if without else None
    for path in sorted(root.rglob("*"), key=lambda p: p.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        if left_out and path.resolve().is_relative_to(left_out):
            continue
        # A name that is not UTF-8 must still go into JSON and HTML.
        yield os.fsencode("/".join(parts)).decode(errors="backslashreplace"), path


def _opened(path: Path) -> Image:
    """The picture with its header read; raises BadImage with the reason alone."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
    except UnidentifiedImageError:
        raise BadImage("no image, or of a kind that Pillow does not know") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage(f"over {LARGEST:,} pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(f"damaged ({error})") from error
    reason = ""
    if image.width * image.height > LARGEST:
        reason = f"over {LARGEST:,} pixels"
    elif image.mode not in MODES:
        reason = f"pixels of mode {image.mode}; expected 8 bits a channel"
    if reason:
        image.close()
        raise BadImage(reason)
    return image
