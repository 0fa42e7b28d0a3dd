"""Memory that training frees stays with the process, where the C library can be told so."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest

from chimera_lib.ternary import allocator

FAULTS = """
    import resource
    import torch
    from chimera_lib.ternary import allocator
    torch.set_num_threads(1)
    if {keep}:
        assert allocator.keep_memory()
    def step():  # tensors of 4 MB, as a ResNet-20 makes of a batch
        return sum(part.sum() for part in [torch.ones(2**20) for _ in range(20)])
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    """Page faults of five steps of 80 MB, in a process of its own."""
    words = [sys.executable, "-c", textwrap.dedent(FAULTS.format(keep=keep))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return int(done.stdout)


def test_kept_memory_is_not_faulted_in_again() -> None:
    if platform.libc_ver()[0] == "glibc":
        assert faults(keep=True) < 0.1 * faults(keep=False)
    else:
        assert allocator.keep_memory() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("was asked for anyhow"))
    allocator.keep_memory.cache_clear()
    try:
        assert allocator.keep_memory() is False
        assert allocator.keep_memory() is False
    finally:
        allocator.keep_memory.cache_clear()


def test_a_limit_of_an_older_glibc_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(what: int, size: int) -> int:
            asked.append((what, size))
            return int(size <= 2**25)

    def library(_: None) -> type[Library]:
        return Library

    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.28"))
    monkeypatch.setattr(allocator.ctypes, "CDLL", library)
    allocator.keep_memory.cache_clear()
    try:
        assert allocator.keep_memory() is True
        assert allocator.keep_memory() is True
    finally:
        allocator.keep_memory.cache_clear()
    assert asked == [(-3, 2**30), (-3, 2**25), (-1, -1)]  # and nothing the second time
