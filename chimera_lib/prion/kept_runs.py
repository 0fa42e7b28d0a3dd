"""Finished runs of a campaign in a JSON Lines file: what is read back, and whether a row measured what is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.experiment import Outcome, Setting
from chimera_lib.prion.faults import Faults
from chimera_lib.prion.metrics import Measurement

if TYPE_CHECKING:
    from pathlib import Path


def read(file: Path) -> list[Outcome]:
    """The runs that a file holds; half written lines, and those of another version of this library, are passed over."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        try:
            found.append(_outcome(json.loads(line)))
        except (ValueError, KeyError, TypeError, ChimeraError):
            continue
    return found


def along(setting: Setting, trail: tuple[int, ...]) -> tuple[int, ...]:
    """After which steps a run is measured: those asked for that it gets to, and if there are any also its last."""
    return tuple(sorted({step for step in trail if step <= setting.steps} | ({setting.steps} if trail else set())))


def followed(outcome: Outcome, trail: tuple[int, ...]) -> bool:
    """Whether a run was measured after all of these steps, as far as it went before it was stopped early."""
    return all(step in outcome.trail for step in along(outcome.setting, trail) if step <= len(outcome.losses))


def appended(file: Path) -> TextIO:
    """A file opened for more lines; a last line that has no end gets one first, so that no row is glued to it."""
    unended = file.exists() and file.read_bytes()[-1:] not in (b"", b"\n")
    opened = file.open("a")
    if unended:
        opened.write("\n")
    return opened


def _outcome(plain: dict[str, Any]) -> Outcome:
    measured = {
        name: Measurement(**{**plain[name], "singular_values": tuple(plain[name]["singular_values"])})
        for name in ("before", "after", "published_before", "published_after")
    }
    return Outcome(
        setting=_setting(plain["setting"]),
        **measured,
        losses=tuple(plain["losses"]),
        weight_change=plain["weight_change"],
        relative_change=plain["relative_change"],
        trail={int(step): values for step, values in plain["trail"].items()},
        ranks=tuple((step, rank) for step, rank in plain["ranks"]),
        facts=plain["facts"],
        parameters=plain["parameters"],
    )


def _setting(plain: dict[str, Any]) -> Setting:
    return Setting(**{**plain, "faults": Faults(**plain["faults"])})
