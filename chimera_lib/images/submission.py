"""The challenge's submission: a flat zip of 1,000 small PNGs, packed, validated, and scored again.

Organisers' rules: up to 1,000 files ``000.png`` ... ``999.png`` in the top folder of a zip of at most
150 MB, each 32x32 pixels, RGB, 8 bits a channel. The score is the share of images whose class
differs between OpenBLAS and BLIS.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib import recorded, stats
from chimera_lib.errors import BackendDied, BackendUnavailable, BadImage, BadSubmission
from chimera_lib.images.campaign import write_whole
from chimera_lib.images.png import decode, png_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chimera_lib.images.network import Network

COUNT = 1000
SIDE = 32  # pixels
ZIP_BYTES = 150 * 10**6
PNG_BYTES = 64 * 1024  # a 32x32 RGB PNG is about 3 KB; more than this is no picture but a bomb
NAME = re.compile(r"[0-9]{3}\.png")


def pack(images: Sequence[np.ndarray], path: Path, origins: Sequence[dict[str, object]], count: int = COUNT) -> None:
    """Write a submission of ``count`` images: the unique ones in turn, repeated until the count is reached.

    ``origins`` says where each unique image comes from; it goes into the manifest ``<path>.json`` with one
    entry per file. The zip is byte for byte the same for the same images. Raises BadSubmission for no
    images, more than ``count``, or a count over 1,000.
    """
    if not 1 <= len(images) <= count <= COUNT:
        raise BadSubmission(
            f"{len(images)} images for {count} places; expected 1 to {COUNT} images, at most the places"
        )
    encoded = [png_bytes(image) for image in images]
    buffer = io.BytesIO()
    entries = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in range(count):
            unique = place % len(images)
            archive.writestr(zipfile.ZipInfo(f"{place:03d}.png", (1980, 1, 1, 0, 0, 0)), encoded[unique])
            entries.append({"file": f"{place:03d}.png", "replicate_of": f"{unique:03d}.png", **origins[unique]})
    data = buffer.getvalue()
    validate(data, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    manifest = {"zip_sha256": hashlib.sha256(data).hexdigest(), "unique": len(images), "images": entries}
    write_whole(path.with_suffix(".json"), (json.dumps(manifest, indent=1) + "\n").encode())


def validate(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Check a zip against the organisers' rules without unpacking anything to disk.

    Returns its images by file name, each uint8 (32, 32, 3). Raises BadSubmission with the first rule
    broken and the entry that breaks it.
    """
    if len(data) > ZIP_BYTES:
        raise BadSubmission(f"{name}: {len(data)} bytes; expected at most {ZIP_BYTES}")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise BadSubmission(f"{name}: not a zip file ({error}); pack the PNGs with `chimera images submit`") from error
    with archive:
        entries = archive.infolist()
        if not 1 <= len(entries) <= COUNT:
            raise BadSubmission(f"{name}: {len(entries)} entries; expected 1 to {COUNT}")
        images: dict[str, np.ndarray] = {}
        for entry in entries:
            check_entry(entry, name, images)
            try:
                # The declared size is a claim: a crafted entry may hold more, so no more than the limit is read.
                with archive.open(entry) as file:
                    content = file.read(PNG_BYTES + 1)
            except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
                raise BadSubmission(f"{name}: {entry.filename} cannot be read ({error}); pack it again") from error
            if len(content) > PNG_BYTES:
                raise BadSubmission(f"{name}: {entry.filename} unpacks to over {PNG_BYTES} bytes; expected a 32x32 PNG")
            try:
                images[entry.filename] = decode(content, f"{name}: {entry.filename}", SIDE)
            except BadImage as error:
                raise BadSubmission(str(error)) from error
    return images


def check_entry(entry: zipfile.ZipInfo, name: str, seen: dict[str, np.ndarray]) -> None:
    """Judge a zip entry by its directory record alone; raises BadSubmission."""
    if not NAME.fullmatch(entry.filename):
        raise BadSubmission(f"{name}: entry {entry.filename!r}; expected flat names 000.png to 999.png")
    if entry.filename in seen:
        raise BadSubmission(f"{name}: {entry.filename} occurs twice; expected each name once")
    if entry.flag_bits & 0x1:
        raise BadSubmission(f"{name}: {entry.filename} is encrypted; pack it without a password")
    if entry.file_size > PNG_BYTES:
        raise BadSubmission(
            f"{name}: {entry.filename} unpacks to {entry.file_size} bytes; expected at most {PNG_BYTES}"
        )


def willing(network: Network, pair: tuple[str, str], others: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The pair and those of the others that start here, and why the rest does not."""
    from chimera_lib.images.backends import registry
    from chimera_lib.images.backends.pool import Worker

    names, lost = list(pair), {}
    for other in dict.fromkeys(others):
        try:
            with Worker(registry.get(other), network):
                names += [other] if other not in names else []
        except BackendUnavailable as error:
            lost[other] = str(error)
    return names, lost


@dataclass(frozen=True)
class Score:
    """What ``verify`` found. ``score`` is the share of files on which the pair's classes differ."""

    files: int
    unique: int
    pair: tuple[str, str]
    score: float
    rounds: int
    repeatable: bool  # logits of every round equal bit for bit
    predictions: dict[str, dict[str, int]]  # file name -> backend -> class
    lost: dict[str, str]  # backend -> why it could not judge
    failures: tuple[str, ...]  # files that are no chimera
    source: dict[str, int]  # file name -> which distinct image it holds
    backends: dict[str, dict[str, str]]  # what each backend says it is
    searched: bool  # whether the manifest beside the zip says that the pair was asked during the search

    @property
    def hits(self) -> int:
        """How many of the distinct images are chimeras."""
        return self.unique - len({self.source[file] for file in self.failures})


def verify(
    path: Path,
    network: Network,
    pair: tuple[str, str],
    *,
    others: Sequence[str] = (),
    rounds: int = 2,
    report: Callable[[str], None] = print,
) -> Score:
    """Score a submission again, each round with freshly started backend processes.

    Each distinct image is classified alone, once a round. ``others`` are asked too, but do not
    count for the score. Raises BadSubmission for an invalid zip, BackendUnavailable or BackendDied
    where one of the pair cannot judge.
    """
    from chimera_lib.images.oracle import Oracle

    if not path.is_file():
        raise BadSubmission(f"{path}: no such file; name a zip written by `chimera images submit`")
    images = validate(path.read_bytes(), path.name)
    files = sorted(images)
    distinct: dict[bytes, int] = {}
    place = [distinct.setdefault(images[file].tobytes(), len(distinct)) for file in files]
    stack = np.stack([np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3) for raw in distinct])
    names, lost = willing(network, pair, others)
    logits: list[dict[str, np.ndarray]] = []
    facts: dict[str, dict[str, str]] = {}
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}: {len(stack)} distinct images on {', '.join(names)}")
        with Oracle(network, names) as oracle:
            verdict = oracle(stack)
            logits.append(dict(zip(verdict.names, verdict.logits, strict=True)))
            lost |= oracle.lost
            facts |= oracle.info()
    said = {b: values.argmax(1) for b, values in logits[-1].items() if all(b in each for each in logits)}
    for backend in pair:
        if backend not in said:
            raise BackendDied(f"{backend} could not judge ({lost[backend]}); run it again or choose another --pair")
    repeatable = all(
        np.array_equal(logits[0][b].view(np.uint32), later[b].view(np.uint32)) for later in logits[1:] for b in said
    )
    differ = said[pair[0]] != said[pair[1]]
    for earlier in logits[:-1]:
        differ &= earlier[pair[0]].argmax(1) != earlier[pair[1]].argmax(1)
    return Score(
        files=len(files),
        unique=len(stack),
        pair=pair,
        score=float(np.mean([differ[p] for p in place])),
        rounds=rounds,
        repeatable=repeatable,
        predictions={file: {b: int(said[b][p]) for b in said} for file, p in zip(files, place, strict=True)},
        lost=lost,
        failures=tuple(file for file, p in zip(files, place, strict=True) if not differ[p]),
        source=dict(zip(files, place, strict=True)),
        backends=facts,
        searched=set(pair) <= asked_in_search(path),
    )


def asked_in_search(path: Path) -> set[str]:
    """The backends that the manifest beside a zip names as those of the search; none where there is no manifest."""
    manifest = path.with_suffix(".json")
    if not manifest.is_file():
        return set()
    try:
        return set(json.loads(manifest.read_text())["images"][0].get("predictions") or {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadSubmission(f"{manifest}: no manifest of a submission ({error!r}); delete it or pack again") from error


def write_record(path: Path, score: Score) -> None:
    """Write a score to ``path`` for the table of figures; n counts the distinct images, not their copies.

    A submission was selected on the backends of its search, so its score there has no interval: it
    says whether the finds repeat. On other backends it is a rate, with an exact interval.
    """
    interval = None if score.searched else stats.exact(score.hits, score.unique)
    metrics: dict[str, object] = {
        "score": {"value": score.score, "n": score.unique, "ci": interval},
        "files": score.files,
        "rounds": score.rounds,
        "repeatable": score.repeatable,
    }
    recorded.write(path, recorded.command_line(), metrics, score.backends)
