"""Columns of strings or bytes out of a small Parquet file, without the 170 MB of a library that reads every kind.

Reads what pandas writes by default for such columns: no nesting, no missing values, pages of version 1, plain or
dictionary-encoded, stored as they are or with gzip. Anything else is refused by name. Format:
https://parquet.apache.org/docs/file-format and, for its headers, Thrift's compact protocol.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"PAR1"
BYTE_ARRAY, PLAIN, DICTIONARY = 6, 0, (2, 8)
CODECS = {0: bytes, 2: lambda data: zlib.decompress(data, wbits=31)}  # as it is, gzip
DATA_PAGE, DICTIONARY_PAGE = 0, 2


class _Thrift:
    """Structures in the compact protocol, as dictionaries from field number to value."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self.data, self.place = data, place

    def number(self) -> int:
        """An unsigned number, seven bits a byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def signed(self) -> int:
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            self.place += 1
            return self.data[self.place - 1]
        if kind in (4, 5, 6):
            return self.signed()
        if kind == 7:
            self.place += 8
            return struct.unpack_from("<d", self.data, self.place - 8)[0]
        if kind == 8:
            size = self.number()
            self.place += size
            return self.data[self.place - size : self.place]
        if kind in (9, 10):
            head = self.value(3)
            size = head >> 4 if head >> 4 < 15 else self.number()
            return [self.value(head & 15) for _ in range(size)]
        if kind == 12:
            return self.structure()
        raise ValueError(f"Thrift type {kind}")

    def structure(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self.value(3):
            number = number + (head >> 4) if head >> 4 else self.signed()
            fields[number] = self.value(head & 15)
        return fields


def read(path: Path, names: list[str]) -> dict[str, list[bytes]]:
    """The values of the named columns, one for each row, in the file's order.

    Raises ChimeraError where the file is missing or no Parquet, or holds a column in another form than these.
    """
    try:
        data = path.read_bytes()
        if data[:4] != MAGIC or data[-4:] != MAGIC:
            raise ValueError("it lacks the mark PAR1 at an end")
        (size,) = struct.unpack("<I", data[-8:-4])
        meta = _Thrift(data, len(data) - 8 - size).structure()
        found: dict[str, list[bytes]] = {name: [] for name in names}
        for group in meta[4]:
            chunks = {b".".join(chunk[3][3]).decode(): chunk[3] for chunk in group[1]}
            for name in names:
                if name not in chunks:
                    raise ValueError(f"no column {name!r} among {', '.join(chunks)}")
                found[name] += _column(data, name, chunks[name])
    except (OSError, ValueError, KeyError, IndexError, struct.error, zlib.error) as error:
        raise ChimeraError(f"cannot read {path} ({error}); expected a Parquet file of strings or bytes") from error
    return found


def _column(data: bytes, name: str, chunk: dict[int, Any]) -> list[bytes]:
    """All values of one column in one group of rows."""
    if chunk[1] != BYTE_ARRAY or chunk[4] not in CODECS:
        raise ValueError(f"column {name!r} has type {chunk[1]} and codec {chunk[4]}")
    values: list[bytes] = []
    words: list[bytes] = []
    place = min(chunk.get(11, chunk[9]), chunk[9])
    while len(values) < chunk[5]:
        reader = _Thrift(data, place)
        header = reader.structure()
        place = reader.place + header[3]
        page = CODECS[chunk[4]](data[reader.place : place])
        if header[1] == DICTIONARY_PAGE:
            words = list(_plain(page, header[7][1]))
        elif header[1] == DATA_PAGE:
            values += _page(name, page, header[5], words)
        else:
            raise ValueError(f"column {name!r} has a page of type {header[1]}")
    return values


def _page(name: str, page: bytes, header: dict[int, Any], words: list[bytes]) -> list[bytes]:
    """The values of one data page; its first part says which are missing, and none may be."""
    count = header[1]
    (size,) = struct.unpack_from("<I", page)
    if any(level != 1 for level in _runs(page[4 : 4 + size], 1, count)):
        raise ValueError(f"column {name!r} has missing values")
    body = page[4 + size :]
    if header[2] == PLAIN:
        return list(_plain(body, count))
    if header[2] in DICTIONARY:
        return [words[index] for index in _runs(body[1:], body[0], count)]
    raise ValueError(f"column {name!r} has encoding {header[2]}")


def _plain(data: bytes, count: int) -> Iterator[bytes]:
    """Each value after its length."""
    place = 0
    for _ in range(count):
        (size,) = struct.unpack_from("<I", data, place)
        yield data[place + 4 : place + 4 + size]
        place += 4 + size


def _runs(data: bytes, width: int, count: int) -> Iterator[int]:
    """``count`` numbers of ``width`` bits: runs of one number, and groups of eight packed ones."""
    reader = _Thrift(data)
    each = (width + 7) // 8
    while count > 0:
        head = reader.number()
        size = each if head % 2 == 0 else (head >> 1) * width
        bits = int.from_bytes(data[reader.place : reader.place + size], "little")
        reader.place += size
        length = min(count, head >> 1 if head % 2 == 0 else (head >> 1) * 8)
        for i in range(length):
            yield bits if head % 2 == 0 else (bits >> (i * width)) & ((1 << width) - 1)
        count -= length
