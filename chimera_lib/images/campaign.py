"""Run a search strategy from many start images, keeping every result the moment it is there.

A campaign's folder holds ``rows.jsonl``, one line a start, and ``NNNNN.png``, the image found from start
NNNNN. A killed campaign goes on where it stopped; a campaign of other settings is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.errors import BadImage, ChimeraError
from chimera_lib.images.search import strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn

    from chimera_lib.images.oracle import Oracle
    from chimera_lib.images.search.protocol import Budget, Outcome


SEARCH = "chimera_lib.images.search."


@dataclass(frozen=True)
class Row:
    """What one search spent and found. Distances are from the start image, in 8-bit levels."""

    start: int
    found: bool
    evaluations: int
    oracle_calls: int
    cpu_seconds: float  # this process and all backend workers
    smallest_gap: float | None  # top-two logit gap, as the search's own model sees it
    linf: int | None = None
    l0: int | None = None  # sub-pixels changed
    predictions: dict[str, int] | None = None  # class by backend, where found
    image: str | None = None  # digest of the start image


@dataclass(frozen=True)
class Campaign:
    """The settings that make two campaigns the same."""

    strategy: str
    budget: Budget
    seed: int
    network: str  # sha256 of the network
    backends: dict[str, str]  # name -> version and kernels, as the running library says them
    code: str  # sha256 of the strategy's sources


def settings(name: str, budget: Budget, seed: int, oracle: Oracle) -> Campaign:
    """What a search by strategy ``name`` depends on, as far as this machine can tell."""
    said = {backend: f"{facts['version']} {facts['kernels']}" for backend, facts in oracle.info().items()}
    return Campaign(name, budget, seed, oracle.network.sha256, said, sources(name))


def sources(name: str) -> str:
    """sha256 of a strategy's file, the search files that it uses and the executor: other code, another campaign."""
    waiting, seen = [sys.modules[strategy(name).__module__]], {}
    while waiting:
        module = waiting.pop()
        seen[module.__name__] = Path(str(module.__file__)).read_bytes()
        for value in vars(module).values():
            home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if str(home).startswith(SEARCH) and home not in seen:
                waiting.append(sys.modules[str(home)])
    seen["executor"] = (Path(__file__).parent / "executor.py").read_bytes()
    digest = hashlib.sha256()
    for key in sorted(seen):
        digest.update(key.encode() + b"\0" + seen[key])
    return digest.hexdigest()


def run(
    model: nn.Module,
    images: np.ndarray,
    starts: Sequence[int],
    oracle: Oracle,
    *,
    name: str,
    budget: Budget,
    seed: int,
    output: Path | None = None,
    enough: int | None = None,
    progress: bool = True,
) -> tuple[list[Row], list[np.ndarray]]:
    """Search by strategy ``name`` from ``images[starts]``, uint8 (N, H, W, 3), or until ``enough`` differ.

    Returns a row for each start, in order, and the chimeras found. With ``output``, rows and images are
    written as they come and taken from there on a second run, but for starts that were another image then. Start
    ``s`` searches with seed ``seed * 1,000,003 + s``, so results do not depend on which starts ran before.
    """
    from tqdm.auto import tqdm

    search = strategy(name)
    done = resume(output, asdict(settings(name, budget, seed, oracle))) if output else {}
    rows, found = [], []
    distinct: set[bytes] = set()
    pause = 0.1 if sys.stderr.isatty() else 20.0  # seconds between lines of a log
    total = len(starts) if enough is None else enough
    with tqdm(total=total, desc=name, disable=not progress, mininterval=pause) as bar:
        for start in starts:
            if start not in done or done[start][0].image != digest(images[start]):
                cpu = time.process_time() + oracle.cpu_seconds
                outcome = search(model, images[start], oracle, budget, seed * 1_000_003 + start)
                cpu = time.process_time() + oracle.cpu_seconds - cpu
                row = describe(start, images[start], outcome, cpu, oracle.names)
                done[start] = row, outcome.chimera
                if output:
                    append(output, row, outcome.chimera)
            row, chimera = done[start]
            rows.append(row)
            if chimera is not None:
                found.append(chimera)
                distinct.add(chimera.tobytes())
            bar.update(1 if enough is None else len(distinct) - bar.n)
            if len(distinct) == enough:
                break
    return rows, found


def digest(image: np.ndarray) -> str:
    """What tells start images, uint8 (H, W, 3), apart: 16 hexadecimal digits."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def describe(start: int, image: np.ndarray, outcome: Outcome, cpu: float, names: Sequence[str]) -> Row:
    """Condense an outcome into a row; ``names`` are the backends of its predictions."""
    spent: dict[str, Any] = {
        "start": int(start),
        "evaluations": outcome.evaluations,
        "oracle_calls": outcome.oracle_calls,
        "cpu_seconds": round(cpu, 4),
        "smallest_gap": min(outcome.path, default=None),
        "image": digest(image),
    }
    if outcome.chimera is None or outcome.predictions is None:
        return Row(found=False, **spent)
    change = np.abs(outcome.chimera.astype(int) - image)
    predictions = dict(zip(names, (int(c) for c in outcome.predictions), strict=True))
    return Row(found=True, linf=int(change.max()), l0=int((change > 0).sum()), predictions=predictions, **spent)


def resume(output: Path, made: Mapping[str, Any]) -> dict[int, tuple[Row, np.ndarray | None]]:
    """What a campaign of the settings ``made``, JSON-able, left in ``output``; a torn line or image is left out.

    Raises ChimeraError where the folder holds a search of other settings.
    """
    output.mkdir(parents=True, exist_ok=True)
    head = output / "campaign.json"
    if not head.is_file():
        write_whole(head, json.dumps(made, indent=2).encode())
    elif head_of(output) != json.loads(json.dumps(made)):
        raise ChimeraError(f"{output} holds a search of other settings; name another --output or delete it")
    return load(output, again=True)


def head_of(output: Path) -> dict[str, Any]:
    """The settings of the campaign in a folder; raises ChimeraError where they cannot be read."""
    head = output / "campaign.json"
    try:
        return dict(json.loads(head.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ChimeraError(f"{head}: missing or damaged; delete {output} or name another folder") from error


def load(output: Path, *, again: bool = False) -> dict[int, tuple[Row, np.ndarray | None]]:
    """The rows in a campaign's folder by start, each with its chimera, uint8 (H, W, 3), where one was found.

    A line that a kill cut short is passed over. A damaged image raises BadImage, or, where the campaign is to be
    searched ``again``, leaves its start out.
    """
    from chimera_lib.images.png import read_png

    done: dict[int, tuple[Row, np.ndarray | None]] = {}
    rows = output / "rows.jsonl"
    for line in rows.read_bytes().splitlines() if rows.is_file() else ():
        try:
            row = Row(**json.loads(line))
        except (ValueError, TypeError):
            continue
        try:
            done[row.start] = row, read_png(output / f"{row.start:05d}.png") if row.found else None
        except BadImage:
            if not again:
                raise
    return done


def origins(output: Path) -> tuple[list[dict[str, object]], list[np.ndarray]]:
    """For a manifest: where each chimera in a campaign's folder comes from, and the chimeras, uint8 (H, W, 3) each."""
    made = head_of(output)
    found = [(row, image) for row, image in load(output).values() if image is not None]
    whence: list[dict[str, object]] = [
        {"strategy": made["strategy"], "seed": made["seed"], "start": row.start, "predictions": row.predictions}
        for row, _ in found
    ]
    return whence, [image for _, image in found]


def append(output: Path, row: Row, chimera: np.ndarray | None) -> None:
    """Write the image first, then the line that says it is there."""
    from chimera_lib.images.png import png_bytes

    if chimera is not None:
        write_whole(output / f"{row.start:05d}.png", png_bytes(chimera))
    with (output / "rows.jsonl").open("a+b") as file:
        if file.tell() and not ends_with_newline(output / "rows.jsonl"):
            file.write(b"\n")
        file.write(json.dumps(asdict(row)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def ends_with_newline(path: Path) -> bool:
    """Whether the last byte of a non-empty file is a line end; a kill may have cut the last line short."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; an OSError names the file."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)  # a failed write does not say where
        raise


def summary(rows: Iterable[Row]) -> dict[str, object]:
    """Rate with its exact interval, and medians with bootstrap intervals, of a campaign's rows."""
    rows = list(rows)
    found = [row for row in rows if row.found]
    out: dict[str, object] = {
        "n": len(rows),
        "found": len(found),
        "rate": len(found) / len(rows),
        "rate_ci": stats.exact(len(found), len(rows)),
    }
    for field in ("evaluations", "oracle_calls", "cpu_seconds", "linf", "l0"):
        of = found if field in ("linf", "l0") else rows
        values = [float(getattr(row, field)) for row in of]
        out[f"median_{field}"] = float(np.median(values)) if values else None
        out[f"median_{field}_ci"] = stats.bootstrap(values) if len(values) > 1 else None
    return out


def tabulate(outcomes: Mapping[str, Sequence[Outcome]], images: np.ndarray) -> list[dict[str, object]]:
    """A table row for each search: what it found and how far it got from ``images``, uint8 (N, H, W, 3), in order.

    Values changed are counted on the candidate that the search ranks first.
    """
    rows: list[dict[str, object]] = []
    for name, each in outcomes.items():
        changed = [np.count_nonzero(o.candidates[0] != image) for o, image in zip(each, images, strict=False)]
        rows.append(
            {
                "search": name,
                "starts": len(each),
                "chimeras": sum(o.chimera is not None for o in each),
                "smallest margin (median)": float(np.median([min(o.path) for o in each])),
                "forward evaluations (median)": float(np.median([o.evaluations for o in each])),
                "values changed (median)": float(np.median(changed)),
            }
        )
    return rows
