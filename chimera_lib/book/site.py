"""Run the notebooks, build the site, and swap it into place when it is whole.

A build works in a folder of its own, so that one that was killed, or what it left running, never touches the site.
The manifest, written last, names every file of the site with its checksum and what the site was built from: a site
without it, or that differs from it, counts for nothing, and one that matches is not built again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib import assets
from chimera_lib.book import offline, stage
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Callable

MANIFEST = ".manifest.json"
_BUILDERS = ("jupyter-book", "myst-nb", "sphinx", "sphinx-book-theme", "sphinx-design", "sphinxcontrib-bibtex")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def build(
    profile: str = "quick",
    output: Path = Path("build"),
    jobs: int = 1,
    report: Callable[[str], object] = print,
    *,
    root: Path | None = None,
) -> Path:
    """Run the book's notebooks, reusing finished runs, and build the site.

    Args:
        profile: Name of the profile that gives the notebooks' parameters, `notebooks/profiles/<profile>.yml`.
        output: Folder for the site (`html/`) and what it was made of (`stage/`).
        jobs: Notebooks to run at one time.
        report: Called with each line of progress.
        root: The checkout; default the one around the working folder.

    Returns:
        The site's first page, `<output>/html/index.html`.

    Raises:
        AssetMissing: A data set that a notebook needs, or MathJax, is not in the cache; says how to fetch it.
        NotebookFailed: A notebook raised an error, or one of its claims did not hold.
        ChimeraError: The prose quotes what nobody measured, or jupyter-book warns of anything.
    """
    from chimera_lib.runs.notebooks import project_root

    root = root or project_root()
    output = output.resolve()
    names = stage.notebooks(root)
    assets.path("mathjax")  # asked for before notebooks run for minutes
    return publish(root, _run(names, root, profile, jobs), output, report)


def _run(names: list[str], root: Path, profile: str, jobs: int) -> dict[str, Path]:
    """Run each notebook under the profile, or reuse its finished run; gives the runs' folders by name."""
    from chimera_lib.runs.engine import Cell, run_cells
    from chimera_lib.runs.progress import Progress

    with Progress() as events:
        runs = run_cells([Cell(name, profile) for name in names], jobs=jobs, root=root, report=events)
    return {run.notebook: run.folder for run in runs}


def publish(root: Path, runs: dict[str, Path], output: Path, report: Callable[[str], object] = print) -> Path:
    """Build the site from finished runs, unless the one in place was built from the same.

    Args:
        root: The checkout.
        runs: Finished run's folder by notebook name, one for every notebook of the table of contents.
        output: Folder for `html/` and `stage/`.
        report: Called with each line of progress.

    Returns:
        The site's first page.

    Raises:
        ChimeraError: As `build` says.
    """
    started = time.monotonic()
    partial = output / ".partial"
    shutil.rmtree(partial, ignore_errors=True)  # of killed builds; another build at work fails, and leaves the site be
    partial.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=partial))
    try:
        staged = work / "stage"
        stage.stage(root, runs, staged, remote=stage.public_remote(root))
        wanted = _fingerprint(staged)
        site = output / "html"
        if built_from(site) == wanted:
            report(f"the book has not changed: {site / 'index.html'}")
            return site / "index.html"
        report(f"building the book's {sum(1 for _ in staged.rglob('*.md')) + len(runs)} pages")
        html = _sphinx(staged, work, output / "sphinx.log")
        offline.complete(html)
        _write_manifest(html, wanted)
        _swap(html, site, work)
        _swap(staged, output / "stage", work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(f"built in {time.monotonic() - started:.0f} s: {site / 'index.html'}")
    return site / "index.html"


def built_from(site: Path) -> str:
    """Give the fingerprint that a site was built from; nothing where the site is missing, cut short or altered."""
    try:
        manifest = json.loads((site / MANIFEST).read_text(encoding="utf-8"))
        expected = manifest["files"]
        return str(manifest["fingerprint"]) if _checksums(site) == expected else ""
    except (OSError, ValueError, KeyError, TypeError):  # no site here, or a damaged one: either way it is built anew
        return ""


def _checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def _fingerprint(staged: Path) -> str:
    """Name what the site depends on: the staged files, what builds them, and MathJax."""
    code = {p.name: p.read_text(encoding="utf-8") for p in sorted(Path(__file__).parent.glob("*.py"))}
    versions = {name: importlib.metadata.version(name) for name in _BUILDERS}
    parts = [_checksums(staged), code, versions, assets.checksums(["mathjax"])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _sphinx(staged: Path, work: Path, log: Path) -> Path:
    """Call jupyter-book, every warning an error; gives the folder of the pages."""
    # By its function, not its script: the script need not be on the PATH of whoever runs this interpreter.
    call = "from jupyter_book.cli.main import main; main(prog_name='jupyter-book')"
    command = [sys.executable, "-c", call, "build", str(staged), "--path-output", str(work)]
    done = subprocess.run(
        [*command, "-n", "-W", "--keep-going"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    said = _COLOUR.sub("", done.stdout)
    log.write_text(said, encoding="utf-8")
    html = work / "_build" / "html"
    warnings = [line for line in said.splitlines() if "WARNING" in line or "ERROR" in line]
    if done.returncode or warnings or not (html / "index.html").is_file():
        first = (warnings or said.strip().splitlines()[-1:] or ["it said nothing"])[0].replace(f"{staged}/", "")
        raise ChimeraError(f"the book does not build, {len(warnings)} warnings, the first: {first} (all: {log})")
    return html


def _write_manifest(html: Path, fingerprint: str) -> None:
    content = json.dumps({"fingerprint": fingerprint, "files": _checksums(html)}, indent=0)
    partial = html / f"{MANIFEST}.partial"
    partial.write_text(content, encoding="utf-8")
    partial.replace(html / MANIFEST)


def _swap(fresh: Path, place: Path, work: Path) -> None:
    """Put a folder in place of another; a kill between the two moves leaves none, which the next build mends."""
    if place.exists():
        place.replace(work / f"old-{place.name}")
    fresh.replace(place)
