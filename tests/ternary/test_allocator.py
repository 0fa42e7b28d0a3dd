"""Memory that training frees stays with the process, where the C library can be told so."""

from __future__ import annotations

import platform
import subprocess
import sys
import textwrap

import pytest

from chimera_lib.ternary import allocator

KEPT = """
    import ctypes
    import torch
    from chimera_lib.ternary import allocator

    class Mallinfo(ctypes.Structure):  # of <malloc.h>
        _fields_ = [(name, ctypes.c_int) for name in
                    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

    torch.set_num_threads(1)
    if {keep}:
        assert allocator.keep_memory()
    mallinfo = ctypes.CDLL(None).mallinfo
    mallinfo.restype = Mallinfo
    before = mallinfo()
    tensor = torch.ones(6 * 2**20)  # 24 MiB
    mapped = mallinfo().hblks - before.hblks
    del tensor
    print(mapped, mallinfo().fordblks - before.fordblks)
"""


def mapped_and_kept(keep: bool) -> tuple[int, int]:
    """Of a tensor of 24 MiB: blocks mapped for it, and bytes held free once it is gone, in a process of its own."""
    words = [sys.executable, "-c", textwrap.dedent(KEPT.format(keep=keep))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    mapped, kept = map(int, done.stdout.split())
    return mapped, kept


def test_what_is_freed_stays_with_the_process() -> None:
    if platform.libc_ver()[0] == "glibc":
        mapped, kept = mapped_and_kept(keep=True)
        assert mapped == 0
        assert kept > 20 * 2**20
        mapped, kept = mapped_and_kept(keep=False)
        assert mapped == 1
        assert kept < 2 * 2**20
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
