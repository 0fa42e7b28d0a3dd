"""What happens to cells while they are run, and what became of each in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera_lib.errors import NotebookFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.store import Run

DONE, REUSED, FAILED, TIMED_OUT = "done", "reused", "failed", "timed out"


@dataclass(frozen=True)
class Event:
    """Something that happened to one cell; as text it is one line for a reader.

    Attributes:
        notebook: the notebook's name, or the label of a sweep's cell.
        kind: ``reused``, ``started``, ``cell``, ``retry``, ``finished``, ``failed`` or ``timed out``.
        number: the code cell that begins, counted from 1 (kind ``cell``).
        total: how many code cells there are (kind ``cell``).
        seconds: since the cell was started.
        detail: where the run lies, or why it is tried again.
    """

    notebook: str
    kind: str
    number: int = 0
    total: int = 0
    seconds: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        what = f"cell {self.number} of {self.total}" if self.kind == "cell" else self.kind
        after = f" · {self.seconds:.0f} s" if self.seconds >= 1 or self.kind == "finished" else ""
        return f"{self.notebook} · {what}{after}{f' · {self.detail}' if self.detail else ''}"


@dataclass(frozen=True)
class Outcome:
    """What became of one cell.

    Attributes:
        job: the cell, looked up and checked.
        status: ``done``, ``reused``, ``failed`` or ``timed out``.
        tries: how often it was begun; 0 for a reused one.
        seconds: from its first beginning to its end.
        node: the machine that it ended on; empty for a reused one.
        run: the finished run, where there is one.
        error: what stopped it, where something did.
    """

    job: Job
    status: str
    tries: int = 0
    seconds: float = 0.0
    node: str = ""
    run: Run | None = None
    error: Exception | None = None

    def event(self) -> Event:
        """The outcome as the last event of its cell."""
        if self.run is None:
            return Event(self.job.label, self.status, seconds=self.seconds)  # the error says why
        kind = "finished" if self.status == DONE else self.status
        return Event(self.job.label, kind, seconds=self.seconds, detail=str(self.run.folder))


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise what went wrong: alone as it is, several as one error with all reasons; a full disk comes first."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    for error in errors:
        if not isinstance(error, NotebookFailed) or len(errors) == 1:
            raise error
    if errors:
        raise NotebookFailed(f"{len(errors)} notebooks failed: {'; '.join(str(error) for error in errors)}")
