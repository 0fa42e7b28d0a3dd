"""The submission's rules, each broken once, and scores that cannot be faked by copies."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chimera_lib.errors import BackendDied, BadImage, BadSubmission
from chimera_lib.images import submission
from chimera_lib.images.png import SIGNATURE, decode, png_bytes, read_png
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget


def png(width: int, height: int, depth: int, colour: int, rows: int | None = None) -> bytes:
    """A valid PNG of zeros with any header, written by hand: Pillow cannot write 16-bit RGB."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    raw = b"".join(b"\0" + bytes(width * channels * depth // 8) for _ in range(height if rows is None else rows))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = png_bytes(np.full((32, 32, 3), 9, np.uint8))

BROKEN = {
    "path in a name": ({"../000.png": GOOD}, "'../000.png'"),
    "folder": ({"a/000.png": GOOD}, "flat names"),
    "other name": ({"cat.png": GOOD}, "'cat.png'"),
    "16 bit": ({"000.png": png(32, 32, 16, 2)}, "16-bit RGB"),
    "greyscale": ({"000.png": png(32, 32, 8, 0)}, "8-bit greyscale"),
    "alpha": ({"000.png": png(32, 32, 8, 6)}, "alpha"),
    "64x64": ({"000.png": png(64, 64, 8, 2)}, "64x64"),
    "no picture": ({"000.png": b"hello"}, "not a PNG"),
    "cut short": ({"000.png": GOOD[:-20]}, "damaged"),
    "rows missing": ({"000.png": png(32, 32, 8, 2, rows=20)}, "damaged"),
    "rows too many": ({"000.png": png(32, 32, 8, 2, rows=4000)}, "damaged"),
    "digits of another script": ({"\u0660\u0660\u0660.png": GOOD}, "flat names"),
    "bomb": ({"000.png": bytes(10_000_000)}, "10000000 bytes"),
    "empty": ({}, "0 entries"),
    "too many": ({f"{i:03d}.png": GOOD for i in range(1000)} | {"1000.png": GOOD}, "1001 entries"),
}


@pytest.mark.parametrize(("entries", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_zip_is_refused_by_name(entries, message):
    with pytest.raises(BadSubmission, match=message) as caught:
        submission.validate(zipped(entries), "mine.zip")
    assert "mine.zip" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_entry_that_lies_about_its_size_is_refused():
    data = bytearray(zipped({"000.png": bytes(10_000_000)}))
    for place in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = struct.pack("<I", 3000)
    with pytest.raises(BadSubmission, match=r"000\.png"):
        submission.validate(bytes(data), "mine.zip")


def test_twice_the_same_name_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("000.png", GOOD)
        archive.writestr("000.png", GOOD)
    with pytest.raises(BadSubmission, match="occurs twice"):
        submission.validate(buffer.getvalue(), "mine.zip")


def test_no_zip_is_refused(tmp_path):
    with pytest.raises(BadSubmission, match="not a zip"):
        submission.validate(b"PK nonsense", "mine.zip")
    with pytest.raises(BadSubmission, match="no such file"):
        submission.verify(tmp_path / "missing.zip", None, ("openblas", "blis"))  # type: ignore[arg-type]


@given(arrays(np.uint8, (32, 32, 3), elements=st.integers(0, 255), fill=st.integers(0, 255)))
def test_png_round_trip_is_exact(image):
    assert np.array_equal(decode(png_bytes(image), "image", 32), image)


def test_png_errors(tmp_path):
    with pytest.raises(BadImage, match=r"float64 \(2, 2\)"):
        png_bytes(np.zeros((2, 2)))
    with pytest.raises(BadImage, match="no such file"):
        read_png(tmp_path / "none.png")


def test_pack_repeats_and_says_so(tmp_path):
    images = [np.full((32, 32, 3), i, np.uint8) for i in range(3)]
    path = tmp_path / "s.zip"
    submission.pack(images, path, [{"start": i} for i in range(3)], count=10)
    back = submission.validate(path.read_bytes(), "s.zip")
    assert sorted(back) == [f"{i:03d}.png" for i in range(10)]
    assert all(np.array_equal(back[f"{i:03d}.png"], images[i % 3]) for i in range(10))
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["images"][4] == {"file": "004.png", "replicate_of": "001.png", "start": 1}
    first = path.read_bytes()
    submission.pack(images, path, [{"start": i} for i in range(3)], count=10)
    assert path.read_bytes() == first
    for bad in ([], images):
        with pytest.raises(BadSubmission, match="places"):
            submission.pack(bad, path, [{}] * 3, count=2)


def test_verify_scores_the_files_not_the_kinds(tmp_path, small_model, small_network, oracle, pictures):
    chimera = next(
        outcome.chimera
        for seed, image in enumerate(pictures)
        if (outcome := lattice.search(small_model, image, oracle, Budget(), seed)).chimera is not None
    )
    path = tmp_path / "s.zip"
    submission.pack([chimera, pictures[0]], path, [{"start": 0}, {"start": 1}], count=5)
    score = submission.verify(path, small_network, ("openblas", "blis"), report=lambda _: None)
    assert (score.files, score.unique, score.rounds) == (5, 2, 2)
    assert score.score == 0.6  # places 0, 2 and 4 hold the chimera
    assert score.failures == ("001.png", "003.png")
    assert score.repeatable
    assert score.predictions["000.png"]["openblas"] != score.predictions["000.png"]["blis"]


def test_a_backend_lost_in_one_round_is_told_and_the_pair_still_judged(tmp_path, small_network, scripted, monkeypatch):
    from chimera_lib.images.backends import registry

    dies = scripted("dies", predict="os.kill(os.getpid(), signal.SIGILL)")
    find = registry.get
    monkeypatch.setattr(registry, "get", lambda name: dies if name == "dies" else find(name))
    path = tmp_path / "s.zip"
    submission.pack([np.full((32, 32, 3), 90, np.uint8)], path, [{}], count=2)
    lines: list[str] = []
    score = submission.verify(path, small_network, ("openblas", "blis"), others=["dies"], report=lines.append)
    assert "SIGILL" in score.lost["dies"]
    assert set(score.predictions["000.png"]) == {"openblas", "blis"}
    assert len(lines) == 2
    with pytest.raises(BackendDied, match="SIGILL"):
        submission.verify(path, small_network, ("openblas", "dies"), others=["blis"], report=lines.append)
