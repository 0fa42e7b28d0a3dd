"""A disk that fills up, at whatever moment, ends in one line and leaves no run."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from chimera_lib.runs.store import Store

_MOUNTED = ["unshare", "-rm", "sh", "-c"]


def can_mount(folder):
    """Whether this machine lets a user mount a small disk of memory in a name space of its own."""
    if shutil.which("unshare") is None:
        return False
    command = [*_MOUNTED, 'mount -t tmpfs -o size=64k tmpfs "$0"', str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


# Full before the kernel starts, while it starts, when a cell writes a figure, when the executed notebook is written.
@pytest.mark.parametrize("size", ["8k", "200k", "1200k", "2200k"])
def test_a_full_disk(project, tmp_path, size):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs user name spaces to mount a small tmpfs")
    figure = "from pathlib import Path\nPath('figure.png').write_bytes(bytes(700_000))"
    project.write("images/01-first", figure, "print('x' * 2_000_000)")
    kept = tmp_path / "kept"
    script = (
        f'mount -t tmpfs -o size={size} tmpfs "$0" && "$1" -m chimera_lib.cli run images/01 --output "$0/runs";'
        'status=$?; mkdir "$2" && cp -r "$0/runs" "$2" ; exit $status'
    )
    done = subprocess.run(
        [*_MOUNTED, script, str(disk), sys.executable, str(kept)],
        cwd=project.root,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert errors[0].startswith(f"error: no space left on the disk at {disk}")
    assert "--output" in errors[0]
    assert "Traceback" not in done.stderr
    assert Store(kept / "runs").runs() == []
