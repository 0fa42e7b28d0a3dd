"""What jupyter-book gets to read: quoted numbers, folded plumbing, no widget that needs a kernel."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chimera_lib.book import stage
from chimera_lib.errors import ChimeraError, NotebookFailed

NAME = "images/02-boundary"
Cell = Callable[..., dict[str, Any]]
Run = Callable[..., dict[str, Path]]


def staged(target: Path) -> dict[str, Any]:
    return json.loads((target / "notebooks" / f"{NAME}.ipynb").read_text())


def test_pages_and_notebooks_are_staged_with_their_numbers(
    project: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    (runs[NAME] / "gap.png").write_bytes(b"a picture")
    (project / "book" / "recorded").mkdir()
    (project / "book" / "recorded" / "long.json").write_text("{}")
    target = tmp_path / "stage"
    stage.stage(project, runs, target)
    files = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert "A rate of 97.5%" in (target / "book" / "intro.md").read_text()
    assert "✓ met" in (target / "book" / "table-of-figures.md").read_text()
    assert staged(target)["cells"][0]["source"] == "# Boundary\n\nIts rate is 98%."
    assert {"_toc.yml", "_config.yml", "_static/chimera.css", f"figures/{NAME}/gap.png"} <= files
    assert not {"book/figures.yml", "book/recorded/long.json"} & files


def test_the_table_of_contents_names_the_notebooks(project: Path) -> None:
    assert stage.notebooks(project) == [NAME]


def test_plumbing_is_folded_and_timings_are_dropped(project: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    stage.stage(project, runs, tmp_path / "stage")
    notebook = staged(tmp_path / "stage")
    assert notebook["cells"][1]["metadata"]["tags"] == ["hide-input", "injected-parameters"]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_captions_stay_and_dead_widgets_go(project: Path, make_cell: Cell, make_run: Run, tmp_path: Path) -> None:
    view = "application/vnd.jupyter.widget-view+json"
    bar = {"output_type": "display_data", "data": {view: {"model_id": "1"}, "text/plain": "0%| |"}, "metadata": {}}
    both = {"output_type": "display_data", "data": {view: {}, "text/html": "<b>3</b>"}, "metadata": {}}
    text = {"output_type": "stream", "name": "stdout", "text": "done\n"}
    caption = {"figure": {"caption": "A figure."}}
    runs = make_run(make_cell("code", "work()", [bar, both, text], mystnb=caption, papermill={"duration": 3}))
    stage.stage(project, runs, tmp_path / "stage")
    staged_cell = staged(tmp_path / "stage")["cells"][0]
    assert staged_cell["metadata"] == {"mystnb": caption}
    assert staged_cell["outputs"] == [{**both, "data": {"text/html": "<b>3</b>"}}, text]


def test_a_notebook_with_an_error_or_an_output_missing_is_refused(
    project: Path, make_cell: Cell, make_run: Run, tmp_path: Path
) -> None:
    error = {"output_type": "error", "ename": "ValueError", "evalue": "x", "traceback": []}
    with pytest.raises(NotebookFailed, match="ValueError"):
        stage.stage(project, make_run(make_cell("code", "work()", [error])), tmp_path / "a")
    with pytest.raises(NotebookFailed, match="never ran"):
        stage.stage(project, make_run(make_cell("code", "work()") | {"execution_count": None}), tmp_path / "b")
    runs = make_run(make_cell("code", "work()"))
    (runs[NAME] / "executed.ipynb").unlink()
    with pytest.raises(ChimeraError, match=r"holds no executed\.ipynb"):
        stage.stage(project, runs, tmp_path / "c")


def test_a_page_that_quotes_nothing_measured_is_refused(project: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    (project / "book" / "intro.md").write_text("# A\n\n{{ images/02-boundary:none }}\n")
    with pytest.raises(ChimeraError, match=r"book/intro\.md: .*unknown metric"):
        stage.stage(project, runs, tmp_path / "stage")


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/someone/chimera.git", "https://github.com/someone/chimera"),
        ("https://codeberg.org/someone/chimera", "https://codeberg.org/someone/chimera"),
        ("https://user:secret@github.com/someone/chimera", ""),
        ("http://github.com/someone/chimera", ""),
        ("git@github.com:someone/chimera.git", ""),
        ("https://localhost/someone/chimera", ""),
        ("https://10.0.0.1/someone/chimera", ""),
        ("/srv/chimera.git", ""),
        (None, ""),
    ],
)
def test_only_a_plain_https_remote_is_public(project: Path, remote: str | None, expected: str) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    if remote:
        subprocess.run(["git", "-C", str(project), "remote", "add", "origin", remote], check=True)
    assert stage.public_remote(project) == expected


def test_links_to_the_repository_need_a_public_one(project: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    stage.stage(project, runs, tmp_path / "private")
    stage.stage(project, runs, tmp_path / "public", remote="https://github.com/someone/chimera")
    private, public = (yaml.safe_load((tmp_path / k / "_config.yml").read_text()) for k in ("private", "public"))
    assert "repository" not in private
    assert not private["launch_buttons"]["colab_url"]
    assert public["repository"]["url"] == "https://github.com/someone/chimera"
    assert public["launch_buttons"]["colab_url"].startswith("https://colab")
    assert "Colab" not in staged(tmp_path / "private")["cells"][0]["source"]
    link = f"https://colab.research.google.com/github/someone/chimera/blob/main/notebooks/{NAME}.ipynb"
    assert staged(tmp_path / "public")["cells"][0]["source"].startswith(f"# Boundary\n\n[Open in Colab]({link})\n\n")


@pytest.mark.parametrize(("text", "message"), [("[", "is not YAML"), ("- 1", "must be a mapping")])
def test_configuration_that_is_none_is_named(project: Path, text: str, message: str) -> None:
    (project / "_toc.yml").write_text(text)
    with pytest.raises(ChimeraError, match=message):
        stage.notebooks(project)
    (project / "_toc.yml").unlink()
    with pytest.raises(ChimeraError, match="go to a checkout"):
        stage.notebooks(project)
