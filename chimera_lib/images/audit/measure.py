"""Show every picture to every backend, and keep the answers as they come.

With a folder to keep them in, an audit that was interrupted asks again only what has no answer yet: answers lie there
under a hash of the network, the running backends and the pictures' bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib.errors import BackendDied, BackendUnavailable, ChimeraError
from chimera_lib.images.audit import searching
from chimera_lib.images.audit.present import Present, default_backends
from chimera_lib.images.audit.reading import Pictures, Stack
from chimera_lib.images.audit.result import NONE, Audit, Made
from chimera_lib.images.campaign import write_whole
from chimera_lib.images.oracle import Oracle, Verdict, report_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chimera_lib.images.backends.registry import Backend
    from chimera_lib.images.network import Network

TIMEOUT = 600.0  # seconds for one message of at most 32 images


def audit(
    network: Network,
    images: Pictures | np.ndarray,
    backends: Sequence[str | Backend] | None = None,
    *,
    search: int = 0,
    evaluations: int = 5000,
    seed: int = 0,
    keep: Path | None = None,
    started: Callable[[], object] | None = None,
    timeout: float = TIMEOUT,
    report: Callable[[str], None] = report_line,
    progress: bool = False,
) -> Audit:
    """Tell whether a network and images disagree across backends, each a process of its own, at batch 1, one thread.

    Args:
        network: see ``audit.model.load`` for the ways to get one.
        images: uint8 (N, H, W, C), or what ``audit.folder`` found.
        backends: which; by default those of ``default_backends`` that this machine has. One that is named and not
            available is an error, so that nobody takes silence for agreement.
        search: start so many lattice searches from the images (drawn at random) for a conflict that can be made.
        evaluations: forward evaluations that one search may cost.
        seed: of the draw and of the searches.
        keep: a folder for what is measured, where an interrupted audit goes on; nothing is written where None.
        started: called once, when the backends run and before the first picture.
        timeout: seconds that a message of at most 32 images may take a backend.
        report: where warnings about lost backends go.
        progress: whether to show progress bars.

    Raises ChimeraError for a network of fewer than two classes, fewer than two backends, logits that are not finite
    (naming the image) or no readable picture; BackendUnavailable; BackendDied where fewer than two are left.
    """
    pictures = Stack(images) if isinstance(images, np.ndarray) else images
    chosen = default_backends() if backends is None else list(backends)
    with Present(network, chosen, timeout=timeout, report=report) as oracle:
        if backends is not None and oracle.missing:
            raise BackendUnavailable("; ".join(f"{name}: {reason}" for name, reason in oracle.missing.items()))
        facts = oracle.info()
        if started:
            started()
        rows = _ask_all(oracle, pictures, facts, keep, progress)
        found = _assemble(network, oracle, facts, rows)
        made: list[Made] = []
        if search:
            made = searching.search(
                found, pictures, oracle, search, evaluations=evaluations, seed=seed, keep=keep, progress=progress
            )
        found = replace(found, lost=dict(oracle.lost), made=tuple(made))
        living = [worker.backend for worker in oracle.workers]
    return searching.confirm(found, living, pictures, timeout=timeout, report=report)


Row = dict[str, Any]  # of one chunk: names, backends, predictions, gaps, top, bits


def _ask_all(
    oracle: Present, pictures: Pictures, facts: dict[str, dict[str, Any]], keep: Path | None, progress: bool
) -> list[Row]:
    """The answers to every chunk, from the backends or from what an interrupted audit left in ``keep``."""
    from tqdm.auto import tqdm

    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    identity = json.dumps([oracle.network.sha256, facts], sort_keys=True)
    rows = []
    pause = 0.1 if sys.stderr.isatty() else 20.0  # seconds between lines of a log
    with tqdm(total=len(pictures), desc="audit", unit="image", disable=not progress, mininterval=pause) as bar:
        for names, images in pictures.chunks():
            key = hashlib.sha256(identity.encode() + images.tobytes()).hexdigest()
            path = keep / f"{key}.npz" if keep else None
            row = _kept(path, oracle.names) if path else None
            if row is None:
                row = _row(_ask(oracle, names, images), images)
                if path:
                    write_whole(path, _packed(row))
            rows.append({**row, "names": names})
            bar.update(len(names))
    if not rows:
        raise ChimeraError("none of the images can be read; expected at least one")
    return rows


def _ask(oracle: Oracle, names: list[str], images: np.ndarray) -> Verdict:
    """Ask about a chunk; where logits are not finite, find out which image did it."""
    try:
        return oracle(images)
    except BackendDied:
        raise
    except ChimeraError as error:
        for name, image in zip(names, images, strict=True):
            try:
                oracle(image[None])
            except ChimeraError as why:
                raise type(why)(f"{name}: {why}") from None
        raise error from None


def _row(verdict: Verdict, images: np.ndarray) -> Row:
    """What is kept of a chunk's logits (B, n, classes)."""
    logits = verdict.logits.astype(np.float64)
    if logits.shape[2] < 2:
        raise ChimeraError(f"the network gives {logits.shape[2]} output; expected the logits of two or more classes")
    top = np.argsort(-logits.mean(0), axis=1, kind="stable")[:, :2].T  # (2, n)
    each = np.arange(logits.shape[1])
    return {
        "backends": list(verdict.names),
        "predictions": verdict.predictions,
        "gaps": logits[:, each, top[0]] - logits[:, each, top[1]],
        "top": top,
        "bits": [hashlib.sha256(mine.tobytes()).hexdigest() for mine in verdict.logits],
        "images": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
    }


def _packed(row: Row) -> bytes:
    """One chunk's answers as the bytes of an .npz without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, **{key: np.asarray(value) for key, value in row.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def _kept(path: Path, backends: tuple[str, ...]) -> Row | None:
    """A chunk's answers of an earlier run; None where there are none, or not of all the ``backends``."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            row: Row = {key: archive[key] for key in archive.files}
        for key in ("backends", "bits", "images"):
            row[key] = [str(text) for text in row[key]]
        return row if tuple(row["backends"]) == backends and {"predictions", "gaps", "top"} <= set(row) else None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None  # damaged: ask again


def _assemble(network: Network, oracle: Present, facts: dict[str, dict[str, Any]], rows: list[Row]) -> Audit:
    """Put the chunks side by side; what a lost backend did not answer stays ``NONE``."""
    counts = [len(row["names"]) for row in rows]
    predictions = np.full((len(facts), sum(counts)), NONE, np.int64)
    gaps = np.full(predictions.shape, np.nan)
    bits: dict[str, list[str]] = {name: [] for name in facts}
    place = {name: i for i, name in enumerate(facts)}
    for row, count, first in zip(rows, counts, np.cumsum([0, *counts[:-1]]), strict=True):
        mine = [place[name] for name in row["backends"]]
        predictions[mine, first : first + count] = row["predictions"]
        gaps[mine, first : first + count] = row["gaps"]
        for name, digest in zip(row["backends"], row["bits"], strict=True):
            bits[name].append(digest)
    hashes = [digest for row in rows for digest in row["images"]]
    return Audit(
        network,
        [name for row in rows for name in row["names"]],
        facts,
        dict(oracle.missing),
        dict(oracle.lost),
        predictions,
        gaps,
        np.concatenate([row["top"] for row in rows], axis=1),
        {name: tuple(digests) for name, digests in bits.items()},
        duplicates=len(hashes) - len(set(hashes)),
    )
