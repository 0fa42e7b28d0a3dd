"""What is shown while notebooks run, and the table of what was run."""

from __future__ import annotations

import io
from pathlib import Path

from chimera_lib.runs.engine import Event
from chimera_lib.runs.progress import Progress
from chimera_lib.runs.store import Run
from chimera_lib.runs.table import table


class Terminal(io.StringIO):
    def isatty(self):
        return True


EVENTS = [
    Event("images/01", "started"),
    Event("images/02", "started"),
    Event("images/01", "cell", 1, 3),
    Event("images/02", "finished", seconds=2.0, detail="runs/x"),
    Event("images/01", "retry", detail="killed"),
]


def test_a_log_gets_a_line_per_event():
    stream = io.StringIO()
    with Progress(stream) as report:
        for event in EVENTS:
            report(event)
    assert stream.getvalue().splitlines() == [str(event) for event in EVENTS]


def test_a_terminal_keeps_one_live_line():
    stream = Terminal()
    with Progress(stream) as report:
        for event in EVENTS:
            report(event)
    shown = stream.getvalue().split("\r\x1b[K")
    assert shown[3] == "images/01 · cell 1 of 3 · 0 s   images/02 · starting · 0 s"
    lasting = [line for line in shown if line.endswith("\n")]
    assert lasting == [f"{EVENTS[3]}\n", f"{EVENTS[4]}\n"]
    assert shown[-1] == "", "the live line is gone at the end"


def test_the_table_shows_headline_metrics():
    metrics = {name: {"value": value} for name, value in [("rate", 0.123456), ("ok", True), ("who", "blis"), ("n", 3)]}
    metrics["rate"] |= {"n": 200, "ci": [0.1, 0.15]}
    environment = {"date": "2026-01-02T03:04:05+00:00", "seconds": 61.4}
    run = Run("images/01-first", "quick", "0123456789abcdef", Path("runs"), metrics, environment)
    bare = Run("vlm/02", "full", "f" * 16, Path("runs"), {}, {})
    assert table([run, bare]) == [
        "notebook         profile  run       finished (UTC)    seconds  headline metrics",
        "images/01-first  quick    01234567  2026-01-02 03:04  61       "
        "rate = 0.1235 (0.1 to 0.15, n = 200); ok = True; who = blis; +1",
        "vlm/02           full     ffffffff  ?                 0        none recorded",
    ]
