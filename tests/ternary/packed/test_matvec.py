"""Compiled, eager and batched products with packed weights are equal, and exact where activations are integers."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import layers as packed_layers
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.codes import CODECS, codec
from chimera_lib.ternary.packed.layers import PackedBitLinear

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

names = pytest.mark.parametrize("name", CODECS)


@pytest.fixture
def kernels() -> None:
    """Skip where torch cannot compile; the first call of a process may take half a minute."""
    if not matvec.can_compile():
        pytest.skip("torch.compile does not work here")


@pytest.fixture
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have compiled kernels multiply by small weights too."""
    monkeypatch.setattr(matvec, "WORTH", 0)
    yield
    matvec.use_eager()


def trits(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-1, 2, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def levels(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@names
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(("n", "k"), [(3, 40), (17, 77), (64, 4096), (5, 13), (7, 6)])
def test_the_kernels_themselves_are_exact_in_integers(name: str, both: bool, n: int, k: int) -> None:
    """Without compiling: a kernel is an ordinary function."""
    codes, x = trits(n, k), levels(k).int()
    packed = codec(name).encode(codes)
    filled = torch.nn.functional.pad(x, (0, packed.shape[1] * codec(name).per_byte - k))
    total, magnitude = matvec.KERNELS[name, both](packed, filled.view(codec(name).per_byte, -1))
    assert total.dtype == torch.int32
    assert torch.equal(total.long(), codes.long() @ x.long())
    assert (magnitude is not None) == both
    assert magnitude is None or torch.equal(magnitude.long(), codes.abs().long() @ x.long())


@pytest.mark.slow
@names
@pytest.mark.parametrize("both", [False, True])
def test_a_compiled_kernel_equals_exact_sums_at_any_shape(kernels: None, name: str, both: bool) -> None:
    for n, k in ((3, 40), (17, 77), (64, 4096), (5, 13), (2, 70_001)):
        codes, x = trits(n, k), levels(k)
        packed = codec(name).encode(codes)
        total, magnitude = matvec.matvec(packed, x.int(), codec(name), both=both)
        assert torch.equal(total.long(), codes.long() @ x.long())
        assert magnitude is None or torch.equal(magnitude.long(), codes.abs().long() @ x.long())
        floats = torch.randn(k, generator=torch.Generator().manual_seed(2))
        total, magnitude = matvec.matvec(packed, floats, codec(name), both=both)
        scale = float(floats.abs().sum())
        assert float((total.double() - codes.double() @ floats.double()).abs().max()) < 1e-6 * scale
        if magnitude is not None:
            assert float((magnitude.double() - codes.abs().double() @ floats.double()).abs().max()) < 1e-6 * scale


@pytest.mark.slow
@names
@pytest.mark.parametrize("mode", ["chimera", "ttq"])
def test_compiled_and_eager_layers_answer_bit_for_bit_alike(
    kernels: None, small_ones_too: None, name: str, mode: str
) -> None:
    torch.manual_seed(0)
    layer = BitLinear(203, 31, mode=mode).eval()
    packed = PackedBitLinear.from_layer(layer, codec=name)
    for shape in ((203,), (1, 203), (2, 2, 203), (5, 203), (0, 203)):
        x = torch.randn(shape)
        matvec.use_eager()
        found = packed(x)
        matvec.use_eager("to compare")
        assert torch.equal(packed(x), found)
        torch.testing.assert_close(found, layer(x).detach(), rtol=1e-5, atol=1e-6)
    floats = PackedBitLinear.from_layer(BitLinear(203, 31, mode=mode, activation=None).eval(), codec=name)
    x = torch.randn(3, 203)
    eager = floats(x)
    matvec.use_eager()
    torch.testing.assert_close(floats(x), eager, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_kernel_is_really_what_few_rows_go_through(
    kernels: None, small_ones_too: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    multiply = matvec.multiply

    def counted(*given: Any) -> Any:
        calls.append(1)
        return multiply(*given)

    monkeypatch.setattr(matvec, "multiply", counted)
    packed = PackedBitLinear.from_layer(BitLinear(60, 7).eval())
    for rows, expected in ((1, 1), (packed_layers.FEW, packed_layers.FEW), (packed_layers.FEW + 1, 0)):
        calls.clear()
        packed(torch.randn(rows, 60))
        assert len(calls) == expected


@pytest.mark.slow
def test_any_number_of_threads_and_modes_is_compiled_for(kernels: None) -> None:
    codes, x = trits(8, 64), levels(64).int()
    packed, threads = codec("2bit").encode(codes), torch.get_num_threads()
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
                with mode():
                    assert torch.equal(matvec.matvec(packed, x, codec("2bit"))[0].long(), codes.long() @ x.long())
    finally:
        torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("worth", [0, 10**9])
def test_a_packed_layer_can_be_part_of_someone_elses_graph(
    kernels: None, worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matvec, "WORTH", worth)  # its kernel, and the product of a batch
    packed = PackedBitLinear.from_layer(BitLinear(60, 7).eval())
    whole = torch.compile(packed)
    for rows in (1, 9):
        x = torch.randn(rows, 1, 60)
        torch.testing.assert_close(whole(x), packed(x), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 40), st.integers(0, 70), st.integers(0, 30), st.integers(0, 99))
@settings(deadline=None)
def test_batched_products_are_exact_at_any_shape(rows: int, k: int, n: int, seed: int) -> None:
    left, right = levels(rows, k, seed=seed), trits(n, k, seed=seed)
    found = matvec.integer_product(left, right)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), left.long() @ right.t().long())


def test_batched_products_of_slices_and_transposes_are_exact() -> None:
    for rows in (1, 2, 17):
        for k in (1, 2, 5):
            for n in (1, 2, 9):
                left, right = levels(rows, 2 * k)[:, :k], trits(n, 3 * k)[:, :k]
                assert torch.equal(matvec.integer_product(left, right).long(), left.long() @ right.t().long())
                left, right = levels(k, rows).t(), trits(k, n).t()
                assert torch.equal(matvec.integer_product(left, right).long(), left.long() @ right.t().long())


@pytest.mark.parametrize("k", [4096, 65_536, 200_000])
def test_the_largest_sums_are_exact(k: int) -> None:
    """All levels 127 and all trits alike: beyond K = 132,104 the sum is no longer a float32 whole number for sure."""
    left = torch.full((2, k), 127, dtype=torch.int8)
    right = torch.ones(3, k, dtype=torch.int8)
    right[1], right[2, -1] = -1, 0
    expected = torch.tensor([[127 * k, -127 * k, 127 * (k - 1)]] * 2)
    assert torch.equal(matvec.integer_product(left, right).long(), expected)
    for one in CODECS.values():
        packed = one.encode(right)
        x = torch.nn.functional.pad(left[0].int(), (0, packed.shape[1] * one.per_byte - k)).view(one.per_byte, -1)
        total, magnitude = matvec.KERNELS[one.name, True](packed, x)
        assert torch.equal(total.long(), expected[0])
        assert magnitude is not None and magnitude[0] == 127 * k


def test_eager_products_can_be_asked_for_and_say_so() -> None:
    matvec.use_eager("asked for")
    try:
        assert not matvec.can_compile()
        said = matvec.info()
        assert (said["kernel"], said["reason"]) == ("eager", "asked for")
        assert said["threads"] == str(torch.get_num_threads())
    finally:
        matvec.use_eager()


SCRIPT = """
import torch
from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.layers import PackedBitLinear

matvec.WORTH = 0
torch.manual_seed(0)
layer = BitLinear(203, 31).eval()
x = torch.randn(2, 203)
torch.testing.assert_close(PackedBitLinear.from_layer(layer)(x), layer(x).detach(), rtol=1e-5, atol=1e-6)
print(matvec.info()["kernel"], matvec.info()["reason"])
"""


@pytest.mark.slow
def test_without_a_compiler_the_same_answers_come_eagerly_and_info_says_why(tmp_path: Path) -> None:
    settings = {"CXX": str(tmp_path / "no-such-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("eager torch.compile fails: ")
    assert "compiler" in done.stdout.lower()
