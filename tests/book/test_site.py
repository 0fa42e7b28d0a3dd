"""The site: built whole or not at all, not built twice from the same, and never taken for whole when it is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chimera_lib.book import site
from chimera_lib.errors import AssetMissing, ChimeraError

NAME = "images/02-boundary"

# A build in a process of its own, for killing: jupyter-book is replaced by something that writes pages slowly, so
# that kills fall into every stage of the rest.
SLOW_BUILD = """
import json, sys, time
from pathlib import Path
from chimera_lib.book import site

def slow(staged, work, log):
    html = work / "_build" / "html"
    html.mkdir(parents=True)
    for i in range(20):
        (html / f"{i}.html").write_text("<p>" + (staged / "book" / "intro.md").read_text() * 50)
        time.sleep(0.01)
    (html / "index.html").write_text("first page")
    return html

site._sphinx = slow
root, runs, output = sys.argv[1:]
print("ready", flush=True)
site.publish(Path(root), {k: Path(v) for k, v in json.loads(runs).items()}, Path(output))
"""


@pytest.fixture
def quick_sphinx(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace jupyter-book by one page of the text of the first; collects what it was called with."""
    calls: list[Path] = []

    def fake(staged: Path, work: Path, log: Path) -> Path:
        calls.append(staged)
        html = work / "_build" / "html"
        html.mkdir(parents=True)
        (html / "index.html").write_text((staged / "book" / "intro.md").read_text())
        return html

    monkeypatch.setattr(site, "_sphinx", fake)
    return calls


@pytest.mark.slow
def test_a_book_builds_without_a_warning_and_works_offline(
    project: Path, runs: dict[str, Path], mathjax: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    index = site.publish(project, runs, tmp_path / "build", said.append)
    html = index.parent
    page = (html / "notebooks" / f"{NAME}.html").read_text()
    assert "../_static/../mathjax/es5/tex-svg-full.js" in (html / "book" / "intro.html").read_text()
    assert "Its rate is 98%" in page
    assert (html / "mathjax" / "es5" / "tex-svg-full.js").read_bytes() == (mathjax / "es5/tex-svg-full.js").read_bytes()
    assert "book/intro.html" in index.read_text()
    assert site.built_from(html)
    assert sorted(p.name for p in (tmp_path / "build").iterdir()) == [".partial", "html", "sphinx.log", "stage"]

    # A link to nowhere is a warning, a warning is an error, and the site in place stays.
    before = site.built_from(html)
    (project / "book" / "intro.md").write_text("# A\n\n[nowhere](none.md)\n")
    with pytest.raises(ChimeraError, match=r"does not build, 1 warnings, the first: book/intro\.md:3: WARNING"):
        site.publish(project, runs, tmp_path / "build", said.append)
    assert site.built_from(html) == before


def test_a_second_build_of_the_same_is_skipped(
    project: Path, runs: dict[str, Path], mathjax: Path, tmp_path: Path, quick_sphinx: list[Path]
) -> None:
    said: list[str] = []
    site.publish(project, runs, tmp_path / "build", said.append)
    site.publish(project, runs, tmp_path / "build", said.append)
    assert len(quick_sphinx) == 1
    assert said[-1].startswith("the book has not changed")
    (project / "book" / "intro.md").write_text("# Another\n")
    site.publish(project, runs, tmp_path / "build", said.append)
    assert len(quick_sphinx) == 2
    assert (tmp_path / "build" / "html" / "index.html").read_text() == "# Another\n"
    assert mathjax.is_dir()


@pytest.mark.parametrize("damage", ["cut", "missing", "added", "no manifest", "bad manifest"])
def test_a_damaged_site_is_built_again(
    project: Path, runs: dict[str, Path], mathjax: Path, tmp_path: Path, quick_sphinx: list[Path], damage: str
) -> None:
    index = site.publish(project, runs, tmp_path / "build", [].append)
    html = index.parent
    assert site.built_from(html)
    if damage == "cut":
        index.write_text(index.read_text()[:10])
    elif damage == "missing":
        (html / "mathjax" / "LICENSE").unlink()
    elif damage == "added":
        (html / "stray.html").write_text("x")
    elif damage == "no manifest":
        (html / site.MANIFEST).unlink()
    else:
        (html / site.MANIFEST).write_text('{"fingerprint": 1')
    assert not site.built_from(html)
    site.publish(project, runs, tmp_path / "build", [].append)
    assert site.built_from(html)
    assert len(quick_sphinx) == 2
    assert mathjax.is_dir()


def test_mathjax_is_asked_for_before_any_notebook_runs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr(site, "_run", lambda *_: pytest.fail("a notebook was run"))
    with pytest.raises(AssetMissing, match="chimera data fetch mathjax"):
        site.build(output=tmp_path / "build", root=project)


def test_a_killed_build_leaves_the_old_site_or_none_and_a_rerun_completes(
    project: Path, runs: dict[str, Path], mathjax: Path, tmp_path: Path
) -> None:
    output, draw = tmp_path / "build", random.Random(5)
    arguments = [str(project), json.dumps({k: str(v) for k, v in runs.items()}), str(output)]
    script = tmp_path / "build.py"
    script.write_text(SLOW_BUILD)

    def start(text: str) -> "subprocess.Popen[str]":
        (project / "book" / "intro.md").write_text(f"# {text}\n")
        command = [sys.executable, str(script), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    started = time.monotonic()
    whole = start("build 0")
    assert whole.communicate()[0]
    length = time.monotonic() - started
    killed = 0
    for number in range(1, 11):
        before = site.built_from(output / "html")
        process = start(f"build {number}")
        time.sleep(draw.uniform(0, length))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        now = site.built_from(output / "html")
        page = output / "html" / "0.html"
        assert now or not (output / "html").exists(), "a site that is not whole is in place"
        assert now != before or not now or f"build {number}" not in page.read_text(), "an old site has a new page"
    assert killed, "no build was killed in time; the delays are too long"
    last = start("the last")
    last.communicate()
    assert last.returncode == 0
    assert site.built_from(output / "html")
    assert "the last" in (output / "html" / "0.html").read_text()
    assert not list((output / ".partial").iterdir())
    shutil.rmtree(mathjax)
