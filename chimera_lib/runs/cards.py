"""Share out the graphics cards of this machine among cells that run side by side (on a cluster Ray does it)."""

from __future__ import annotations

import os
import shutil
import subprocess

from chimera_lib.errors import ChimeraError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def shares(per_run: float, jobs: int) -> list[dict[str, str]]:
    """For each of the cells that run side by side the environment variable that shows it its cards and no others.

    Args:
        per_run: cards of one cell, a whole number or a part of one; 0 leaves every cell all that there are.
        jobs: how many cells run at a time.

    Raises:
        ChimeraError: there are fewer cards than that takes.
    """
    if per_run == 0:
        return [{} for _ in range(jobs)]
    here = cards()
    if per_run < 1:
        lots = [[card] for _ in range(int(1 / per_run)) for card in here]
    else:
        width = int(per_run)
        lots = [here[start : start + width] for start in range(0, len(here) - width + 1, width)]
    if len(lots) < jobs:
        raise ChimeraError(
            f"{jobs} at a time with {per_run:g} graphics cards each, but there are {len(here)} cards here; "
            f"use at most --jobs {len(lots)}" + ("" if lots else ", that is --gpus-per-run 0, which uses none")
        )
    return [{VISIBLE: ",".join(lot)} for lot in lots[:jobs]]


def cards() -> list[str]:
    """What the NVIDIA cards that this process may use are called in ``CUDA_VISIBLE_DEVICES``."""
    if VISIBLE in os.environ:
        return [card for card in os.environ[VISIBLE].split(",") if card]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    return [str(number) for number, line in enumerate(x for x in done.stdout.splitlines() if x.startswith("GPU "))]
