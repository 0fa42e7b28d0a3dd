"""What became of every cell of a sweep: ``summary.json`` and ``summary.csv`` beside its runs, and a table."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import TYPE_CHECKING, Any

from chimera_lib.runs.events import DONE, FAILED, REUSED, TIMED_OUT, Outcome
from chimera_lib.runs.words import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.stores import Keeper

FILES = ("summary.json", "summary.csv")
WAITING = "not done"
COLUMNS = ("id", "status", "why", "tries", "seconds", "node", "folder")
_EVERY = 1.0  # seconds between two writings while cells come to their ends


class Summary:
    """The state of a sweep, written as it goes.

    Args:
        name: the sweep's.
        store: where its runs are; the files go into the sweep's folder there.
        jobs: its cells, in order.
        rows: the values of each.
    """

    def __init__(self, name: str, store: Keeper, jobs: Sequence[Job], rows: Sequence[dict[str, Any]]) -> None:
        self._name, self._store, self._jobs, self._values = name, store, jobs, rows
        self.outcomes: dict[tuple[str, str, str], Outcome] = {}
        self._written = float("-inf")

    def settle(self, outcome: Outcome) -> None:
        """Take note of what became of a cell, and write it down, once a second at most."""
        self.outcomes[outcome.job.key] = outcome
        if time.monotonic() - self._written >= _EVERY:
            self.write()

    def rows(self) -> list[dict[str, Any]]:
        """For each cell its values, and `COLUMNS`."""
        return [self._row(job, values) for job, values in zip(self._jobs, self._values, strict=True)]

    def counts(self) -> dict[str, int]:
        """How many cells there are of each status that occurs."""
        states = [row["status"] for row in self.rows()]
        known = (DONE, REUSED, FAILED, TIMED_OUT, WAITING)
        return {status: states.count(status) for status in known if status in states}

    def write(self) -> list[str]:
        """Write both files, each whole or not at all; returns where they are."""
        rows = self.rows()
        content = {"sweep": self._name, "counts": self.counts(), "cells": rows}
        table = io.StringIO()
        names = list(self._values[0])
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*names, *COLUMNS])
        for row in rows:
            values = [text(row["values"][name]) for name in names]
            writer.writerow(values + [row[column] for column in COLUMNS])
        contents = (json.dumps(content, indent=2, ensure_ascii=False) + "\n", table.getvalue())
        written = [self._store.write(f"{self._name}/{name}", one) for name, one in zip(FILES, contents, strict=True)]
        self._written = time.monotonic()
        return written

    def table(self) -> list[str]:
        """Lines for a reader: each cell with what became of it, and why, where something went wrong."""
        names = list(self._values[0])
        cells = [[*names, "status", "tries", "seconds", "node", "run"]]
        whys = [""]
        for row in self.rows():
            values = [text(row["values"][name]) for name in names]
            cells.append([*values, row["status"], *(str(row[c]) for c in ("tries", "seconds", "node")), row["id"][:8]])
            whys.append(row["why"])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return [
            "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), why]).rstrip()
            for line, why in zip(cells, whys, strict=True)
        ]

    def _row(self, job: Job, values: dict[str, Any]) -> dict[str, Any]:
        outcome = self.outcomes.get(job.key)
        row: dict[str, Any] = {"values": values, "id": job.id, "status": WAITING, "why": ""}
        if outcome is None:
            return {**row, "tries": 0, "seconds": 0.0, "node": "", "folder": ""}
        return {
            **row,
            "status": outcome.status,
            "why": " ".join(str(outcome.error).split()) if outcome.error else "",
            "tries": outcome.tries,
            "seconds": round(outcome.seconds, 2),
            "node": outcome.node,
            "folder": str(outcome.run.folder) if outcome.run else "",
        }
