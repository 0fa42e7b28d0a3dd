"""Trits packed and unpacked come back exactly, in the bytes promised; bytes that mean nothing are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.packed import codes as module
from chimera_lib.ternary.packed.codes import CODECS, codec

names = st.sampled_from(sorted(CODECS))


def random_trits(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 2, shape, generator=generator, dtype=torch.int8)


@given(names, st.lists(st.integers(0, 7), min_size=1, max_size=4), st.integers(0, 99))
def test_every_shape_comes_back_exactly(name: str, shape: list[int], seed: int) -> None:
    trits = random_trits(*shape, seed=seed)
    packed = codec(name).encode(trits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (*shape[:-1], -(-shape[-1] // codec(name).per_byte))
    back = codec(name).decode(packed, shape[-1])
    assert back.dtype == torch.int8
    assert torch.equal(back, trits)


@given(names, st.integers(0, 3000), st.integers(0, 99))
def test_every_length_comes_back_exactly(name: str, length: int, seed: int) -> None:
    trits = random_trits(length, seed=seed)
    assert torch.equal(codec(name).decode(codec(name).encode(trits), length), trits)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("shape", [(37, 41), (1, 1500), (3, 700)])
def test_blocks_of_any_size_are_decoded_alike(
    name: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trits = random_trits(*shape)
    packed = codec(name).encode(trits)
    for block in (1, 7, 64):
        monkeypatch.setattr(module, "BLOCK", block)
        assert torch.equal(codec(name).decode(packed, shape[1]), trits)


def test_transposed_codes_are_packed_as_they_stand() -> None:
    trits = random_trits(9, 14).t()
    for one in CODECS.values():
        assert torch.equal(one.decode(one.encode(trits), 9), trits)


def test_two_bits_are_the_fields_that_the_format_says() -> None:
    # Planes of two: pieces (1, -1), (0, 1), (-1, 0), (1, 1).
    packed = codec("2bit").encode(torch.tensor([1, -1, 0, 1, -1, 0, 1, 1], dtype=torch.int8))
    assert packed.tolist() == [0b01_11_00_01, 0b01_00_01_11]


def test_five_trits_are_the_digits_that_the_format_says() -> None:
    packed = codec("base3").encode(torch.tensor([1, 0, -1, -1, 1], dtype=torch.int8))
    assert packed.tolist() == [2 + 1 * 3 + 0 * 9 + 0 * 27 + 2 * 81]
    assert codec("base3").encode(torch.ones(5, dtype=torch.int8)).tolist() == [242]


def test_each_of_the_243_bytes_means_five_other_trits() -> None:
    every = torch.arange(243, dtype=torch.uint8).reshape(243, 1)
    decoded = codec("base3").decode(every, 5)
    digits = [[byte // 3**t % 3 - 1 for t in range(5)] for byte in range(243)]
    assert decoded.tolist() == digits


@given(st.integers(243, 255), st.integers(0, 9))
def test_a_byte_above_242_is_refused(byte: int, place: int) -> None:
    packed = codec("base3").encode(random_trits(50))
    packed[place] = byte
    with pytest.raises(ValueError, match=f"byte {byte} is no code of five trits"):
        codec("base3").decode(packed, 50)


@given(st.integers(0, 255))
def test_a_byte_with_a_field_10_is_refused_and_no_other(byte: int) -> None:
    packed = torch.tensor([byte], dtype=torch.uint8)
    if any(byte >> (2 * t) & 3 == 2 for t in range(4)):
        with pytest.raises(ValueError, match=f"byte {byte} is no code of four 2-bit trits"):
            codec("2bit").decode(packed, 4)
    else:
        assert torch.equal(codec("2bit").encode(codec("2bit").decode(packed, 4)), packed)


@pytest.mark.parametrize("name", CODECS)
def test_bad_codes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="codes contain 2: expected only -1, 0 and 1"):
        codec(name).encode(torch.tensor([0, 2], dtype=torch.int8))
    with pytest.raises(ValueError, match="codes contain -128"):
        codec(name).encode(torch.tensor([0, -128], dtype=torch.int8))
    with pytest.raises(TypeError, match=r"codes are torch\.float32"):
        codec(name).encode(torch.zeros(3))
    with pytest.raises(ValueError, match="no dimension"):
        codec(name).encode(torch.tensor(1, dtype=torch.int8))


@pytest.mark.parametrize("name", CODECS)
def test_bytes_of_another_kind_or_number_are_refused(name: str) -> None:
    packed = codec(name).encode(random_trits(3, 21))
    with pytest.raises(TypeError, match=r"packed weights are torch\.int32"):
        codec(name).decode(packed.int(), 21)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 11|expected \(\.\.\., 9"):
        codec(name).decode(packed, 41)


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match=r"unknown codec '2bits'.*did you mean '2bit'"):
        codec("2bits")
