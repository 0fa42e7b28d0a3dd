"""The lock is one process's at a time, and is free again when its holder is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from chimera_lib import locking
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys, time
from pathlib import Path
from chimera_lib.locking import exclusive
with exclusive(Path(sys.argv[1]), "it", print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds ``tmp_path/locks/it``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "locks" / "it")], stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"held\n"
        yield one
        one.kill()


def test_waits_says_so_and_gives_up(holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAIT", 0.3)
    said: list[str] = []
    with (
        pytest.raises(ChimeraError, match="it has been locked"),
        locking.exclusive(tmp_path / "locks" / "it", "it", said.append),
    ):
        pytest.fail("two held the lock")
    assert said == ["waiting for another process that is fetching it"]


def test_a_killed_holder_holds_nothing(holder, tmp_path: Path) -> None:
    holder.kill()
    began = time.monotonic()
    with locking.exclusive(tmp_path / "locks" / "it", "it", print):
        assert time.monotonic() - began < 10


def test_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with locking.exclusive(tmp_path / "it", "it", pytest.fail):
            pass
