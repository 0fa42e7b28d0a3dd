"""Columns out of a Parquet file that is put together here, byte by byte, as the format's description says."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from chimera_lib import parquet
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

INTEGER, BINARY, LIST, STRUCT = 5, 8, 9, 12


def number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> bytes:
    return number((value << 1) ^ (value >> 63))


def thrift(fields: dict[int, Any]) -> bytes:
    """A structure in the compact protocol: whole numbers, bytes, lists of one kind, structures."""
    out, last = b"", 0
    for field, value in sorted(fields.items()):
        kind, data = encoded(value)
        short = field - last
        out += bytes([short << 4 | kind]) if short < 16 else bytes([kind]) + zigzag(field)
        out, last = out + data, field
    return out + b"\0"


def encoded(value: Any) -> tuple[int, bytes]:
    if isinstance(value, int):
        return INTEGER, zigzag(value)
    if isinstance(value, bytes):
        return BINARY, number(len(value)) + value
    if isinstance(value, dict):
        return STRUCT, thrift(value)
    parts = [encoded(item) for item in value]
    head = (
        bytes([len(parts) << 4 | parts[0][0]]) if len(parts) < 15 else bytes([0xF0 | parts[0][0]]) + number(len(parts))
    )
    return LIST, head + b"".join(data for _, data in parts)


def plain(values: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def packed(indices: list[int], width: int) -> bytes:
    """One group of packed numbers, padded to a multiple of eight."""
    groups = -(-len(indices) // 8)
    bits = sum(index << (place * width) for place, index in enumerate(indices))
    return number(groups << 1 | 1) + bits.to_bytes(groups * width, "little")


def gzip(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=31)
    return squeezer.compress(data) + squeezer.flush()


def page(content: bytes, codec: int, **header: Any) -> bytes:
    stored = gzip(content) if codec == 2 else content
    fields = {1: header["kind"], 2: len(content), 3: len(stored), header["field"]: header["about"]}
    return thrift(fields) + stored


def data_page(body: bytes, count: int, encoding: int, codec: int, present: int = 1) -> bytes:
    levels = number(count << 1) + bytes([present])  # one run: each value is there, or is not
    about = {1: count, 2: encoding, 3: 3, 4: 3}
    return page(struct.pack("<I", len(levels)) + levels + body, codec, kind=0, field=5, about=about)


def file(path: Path, pages: bytes, count: int, codec: int = 2, dictionary: bool = False, kind: int = 6) -> Path:
    column = {1: kind, 2: [0], 3: [b"word"], 4: codec, 5: count, 6: 1, 7: len(pages), 9: 4}
    if dictionary:
        column |= {9: 5, 11: 4}  # the data pages come after it; where exactly, nobody asks
    footer = thrift({1: 1, 2: [{4: b"schema"}], 3: count, 4: [{1: [{2: 4, 3: column}], 2: 1, 3: count}]})
    path.write_bytes(b"PAR1" + pages + footer + struct.pack("<I", len(footer)) + b"PAR1")
    return path


WORDS = [f"word {i}".encode() * (1 + i % 3) for i in range(20)]


@pytest.mark.parametrize("codec", [0, 2], ids=["as it is", "gzip"])
def test_plain_pages(tmp_path: Path, codec: int) -> None:
    pages = data_page(plain(WORDS[:13]), 13, 0, codec) + data_page(plain(WORDS[13:]), 7, 0, codec)
    assert parquet.read(file(tmp_path / "t", pages, 20, codec), ["word"]) == {"word": WORDS}


def test_dictionary_then_plain(tmp_path: Path) -> None:
    """As pandas writes what outgrows its dictionary: packed indices, a run of one index, and plain values."""
    indices = [3, 1, 4, 1, 5, 9, 2, 6]
    body = bytes([5]) + packed(indices, 5) + number(300 << 1) + bytes([19])
    pages = page(plain(WORDS), 2, kind=2, field=7, about={1: 20, 2: 0})
    pages += data_page(body, 308, 2, 2) + data_page(plain([b"", b"end"]), 2, 0, 2)
    expected = [WORDS[i] for i in indices] + [WORDS[19]] * 300 + [b"", b"end"]
    assert parquet.read(file(tmp_path / "t", pages, 310, dictionary=True), ["word"])["word"] == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: file(path, data_page(b"", 3, 0, 2, present=0), 3), "column 'word' has missing values"),
        (lambda path: file(path, data_page(plain(WORDS), 20, 7, 2), 20), "has encoding 7"),
        (lambda path: file(path, b"", 3, codec=1), "type 6 and codec 1"),
        (lambda path: file(path, b"", 3, kind=1), "type 1 and codec 2"),
        (lambda path: path.write_bytes(b"PAR1, or so it says"), "lacks the mark PAR1"),
        (lambda path: path.write_bytes(b""), "lacks the mark PAR1"),
        (lambda path: None, "No such file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "t")
    with pytest.raises(ChimeraError, match=message):
        parquet.read(tmp_path / "t", ["word"])


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    path = file(tmp_path / "t", data_page(plain(WORDS), 20, 0, 2), 20)
    with pytest.raises(ChimeraError, match="no column 'words' among word"):
        parquet.read(path, ["words"])


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path / "t", data_page(plain(WORDS), 20, 0, 2), 20)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + whole[40:])
    with pytest.raises(ChimeraError, match="expected a Parquet file"):
        parquet.read(path, ["word"])
