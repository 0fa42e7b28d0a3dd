"""Data sets and weights: named, checksummed, cached, fetched only when asked.

An asset is a folder in the cache whose name ends in the checksum of its content. It is put together elsewhere and
renamed into place when it is whole and verified, so that a folder that is there is a complete one.
The cache is ``$CHIMERA_DATA``, or else the user's cache folder.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib.asset_table import ASSETS, Asset
from chimera_lib.errors import AssetMissing, ChecksumMismatch, ChimeraError, UnknownName
from chimera_lib.fetching import SourceUnavailable, checked, megabytes
from chimera_lib.locking import exclusive
from chimera_lib.unpacking import MANIFEST, flush_to_disk, listing, select, tree_checksum, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def root() -> Path:
    """The cache folder: ``$CHIMERA_DATA``, or ``chimera`` in the user's cache folder. It need not exist yet."""
    if chosen := os.environ.get("CHIMERA_DATA"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("chimera"))


def get(name: str) -> Asset:
    """The asset called ``name``. Raises UnknownName, which lists what there is."""
    if name not in ASSETS:
        raise UnknownName("asset", name, ASSETS)
    return ASSETS[name]


def path(name: str) -> Path:
    """The folder that holds asset ``name``, complete.

    Raises:
        UnknownName: no such asset.
        AssetMissing: it has not been fetched; the message says how to.
    """
    asset = get(name)
    folder = _place(asset)
    if not folder.is_dir():
        raise AssetMissing(
            f"asset {name!r} is not in {root()}; fetch it ({megabytes(asset.size)}): chimera data fetch {name}"
        )
    return folder


def present(name: str) -> bool:
    """Whether asset ``name`` is in the cache."""
    return _place(get(name)).is_dir()


def checksums(names: Iterable[str]) -> dict[str, str]:
    """Content checksum of each named asset in the cache, without reading it anew. Raises AssetMissing, UnknownName."""
    found = {}
    for name in names:
        path(name)
        found[name] = get(name).content
    return found


def verify(name: str) -> Path:
    """Read every byte of asset ``name`` again; returns its folder.

    Raises:
        ChecksumMismatch: a file differs from what was fetched; the message names the first such file.
        AssetMissing: it has not been fetched.
    """
    folder, asset = path(name), get(name)
    files = listing(folder)
    if tree_checksum(files) == asset.content:
        return folder
    way_out = f"chimera data fetch {name} replaces it"
    with contextlib.suppress(OSError, ValueError):  # a damaged manifest only makes the message less precise
        noted = json.loads((folder / MANIFEST).read_text())["files"]
        for file in sorted(noted.keys() | files.keys()):
            expected, got = noted.get(file, [0, "no such file"])[1], files.get(file, (0, "nothing"))[1]
            if expected != got:
                raise ChecksumMismatch(f"{folder / file} has checksum {got}, expected {expected}; {way_out}")
    raise ChecksumMismatch(f"{folder} has checksum {tree_checksum(files)}, expected {asset.content}; {way_out}")


def fetch(name: str, source: Path | str | None = None, report: Callable[[str], object] = print) -> Path:
    """Bring asset ``name`` into the cache and return its folder; nothing is downloaded if a sound copy is there.

    Args:
        source: a folder with a copy (the archive as published, or its content); no network is then used.
        report: called with each line of progress.

    Raises:
        AssetMissing: no source could be reached; the message says why for each, and the way out.
        ChecksumMismatch: what came is not what is recorded here; it has been deleted.
        ChimeraError: too little room on the disk, or ``source`` holds no such asset.
        OSError: ENOSPC where the disk filled up meanwhile.
    """
    asset = get(name)
    with exclusive(root() / ".locks" / name, name, report):
        if _sound(asset, report):
            return path(name)
        partial = root() / ".partial"
        partial.mkdir(exist_ok=True)
        for left in partial.glob(f"{name}-*"):  # of killed fetches: the lock says that nobody is at work in them
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=partial))
        try:
            _check_room(asset)
            if source is None:
                tree, origin = _download(asset, work, report)
            else:
                tree, origin = _given(asset, Path(source).expanduser(), work)
            report(f"{name}: unpacking and checking")
            _install(asset, _build(asset, tree, work / "ready"), origin, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    report(f"{name}: in {path(name)}")
    return path(name)


def _place(asset: Asset) -> Path:
    return root() / f"{asset.name}-{asset.content[:12]}"


def _sound(asset: Asset, report: Callable[[str], object]) -> bool:
    """Whether the cache holds a good copy; a damaged one is said."""
    if not present(asset.name):
        return False
    try:
        verify(asset.name)
    except ChecksumMismatch as error:
        report(f"{asset.name}: the copy in the cache is damaged ({error})")
        return False
    report(f"{asset.name}: already in {_place(asset)}")
    return True


def _check_room(asset: Asset) -> None:
    """Refuse to begin what cannot end: the archive, a downloader's own copy of it, and what is unpacked from it."""
    needed, free = 2 * asset.size + 2 * asset.unpacked, shutil.disk_usage(root()).free
    if free < needed:
        raise ChimeraError(
            f"{root()} has {megabytes(free)} free and {asset.name} needs {megabytes(needed)} while it is unpacked; "
            "make room, or set CHIMERA_DATA to a folder on a larger disk"
        )


def _download(asset: Asset, work: Path, report: Callable[[str], object]) -> tuple[Path, str]:
    """Try the sources in order; returns the folder of the first one's unpacked archive, and the source's name."""
    reasons = []
    for number, source in enumerate(asset.sources):
        folder = work / f"download-{number}"
        folder.mkdir()
        report(f"{asset.name}: fetching {megabytes(asset.size)} from {source}")
        try:
            archive = source.download(folder, report, asset.size)
        except SourceUnavailable as error:
            reasons.append(f"{source}: {error}")
            report(f"  {error}")
            continue
        unpack(archive, work / "unpacked")
        shutil.rmtree(folder)
        return work / "unpacked", str(source)
    archives = " or ".join(source.archive for source in asset.sources)
    raise AssetMissing(
        f"could not fetch {asset.name} ({'; '.join(reasons)}); get {archives} on another machine, "
        f"then: chimera data fetch {asset.name} --from FOLDER"
    )


def _given(asset: Asset, folder: Path, work: Path) -> tuple[Path, str]:
    """The asset's files out of the user's folder: of a published archive that lies in it, or else of the folder."""
    if not folder.is_dir():
        raise ChimeraError(f"{folder} is not a folder; name the one that holds {asset.sources[0].archive}")
    for source in asset.sources:
        if (folder / source.archive).is_file():
            # The user's file is copied first: a bad copy is deleted, the user's own is not.
            copy = Path(shutil.copy(folder / source.archive, work))
            unpack(checked(copy, source.checksum, str(folder)), work / "unpacked")
            return work / "unpacked", str(folder / source.archive)
    return folder, str(folder)


def _build(asset: Asset, tree: Path, ready: Path) -> Path:
    """Make the asset's content under ``ready`` from the files under ``tree``."""
    if asset.converter:
        importlib.import_module(asset.converter).convert(tree, ready)
    else:
        select(tree, asset.keep, ready)
    return ready


def _install(asset: Asset, ready: Path, origin: str, work: Path) -> None:
    """Check the content, note it in a manifest, and rename the folder into place."""
    files = listing(ready)
    got = tree_checksum(files)
    if got != asset.content:
        raise ChecksumMismatch(
            f"the content of {asset.name} from {origin} has checksum {got}, expected {asset.content}; "
            "deleted it: try again, or name another folder (--from)"
        )
    note = {"name": asset.name, "version": asset.version, "licence": asset.licence, "source": origin}
    noted = {file: list(entry) for file, entry in files.items()}
    (ready / MANIFEST).write_text(json.dumps(note | {"content": got, "files": noted}, indent=1) + "\n")
    flush_to_disk(ready)
    place = _place(asset)
    if place.exists():  # a damaged copy, see _sound
        place.replace(work / "damaged")
    ready.replace(place)
