"""Read and write the one kind of image this part works on: 8-bit RGB PNG."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.errors import BadImage

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
COLOUR_TYPES = {0: "greyscale", 2: "RGB", 3: "palette", 4: "greyscale with alpha", 6: "RGB with alpha"}


def png_bytes(image: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as an 8-bit RGB PNG; raises BadImage for anything else."""
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise BadImage(f"image is {image.dtype} {image.shape}; expected uint8 (H, W, 3)")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def decode(data: bytes, name: str, side: int | None = None) -> np.ndarray:
    """Decode an 8-bit RGB PNG to uint8 (H, W, 3).

    The header is judged before anything is unpacked, since Pillow would silently cut 16-bit channels to 8
    and an image may claim any size. Raises BadImage, naming ``name``, where the file is no PNG, is not 8-bit
    RGB, is damaged, or is not ``side`` pixels square.
    """
    from PIL import Image

    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise BadImage(f"{name}: not a PNG file; convert it to an 8-bit RGB PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or colour != 2:
        kind = COLOUR_TYPES.get(colour, f"colour type {colour}")
        raise BadImage(f"{name}: {depth}-bit {kind}; expected 8-bit RGB, so convert it without resampling")
    if side is not None and (width, height) != (side, side):
        raise BadImage(f"{name}: {width}x{height} pixels; expected {side}x{side}")
    if width * height > 4096 * 4096:
        raise BadImage(f"{name}: {width}x{height} pixels; expected at most 4096x4096")
    if END not in data or not complete(data, height * (3 * width + 1)):
        raise BadImage(f"{name}: damaged PNG (it is cut short, too long or interlaced); export it again")
    try:
        with Image.open(io.BytesIO(data)) as file:
            return np.array(file.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(f"{name}: damaged PNG ({error}); export it again") from error


def complete(data: bytes, expected: int) -> bool:
    """Whether a PNG's compressed chunks unpack to exactly the ``expected`` bytes; Pillow would fill up with black."""
    unpacker, size, place = zlib.decompressobj(), 0, len(SIGNATURE)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"IDAT":
            try:
                size += len(unpacker.decompress(data[place + 8 : place + 8 + length], expected + 1))
            except zlib.error:
                return False
        place += length + 12
    return size == expected


def read_png(path: Path, side: int | None = None) -> np.ndarray:
    """Read an 8-bit RGB PNG as uint8 (H, W, 3); raises BadImage as ``decode``, or where there is no file."""
    if not path.is_file():
        raise BadImage(f"{path}: no such file; name an 8-bit RGB PNG")
    return decode(path.read_bytes(), str(path), side)
