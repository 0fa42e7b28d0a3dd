"""Gather what jupyter-book reads into one folder: prose, executed notebooks, figures, configuration.

The folder has the layout of the checkout, so that links between pages hold in both: `book/…`, `notebooks/…`,
and beside them `figures/<notebook>/*.png`, the pictures that the runs saved.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from chimera_lib.book import figures, tables
from chimera_lib.book.quotes import Metrics, substitute
from chimera_lib.errors import ChimeraError
from chimera_lib.runs.notebooks import check_executed, read, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_TITLE = re.compile(r"^# .*$", re.MULTILINE)
_PUBLIC = re.compile(r"https://(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,})/(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?")


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises ChimeraError where there is none."""
    import yaml

    if not path.is_file():
        raise ChimeraError(f"no {path.name} in {path.parent}: go to a checkout of the project first")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ChimeraError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ChimeraError(f"{path} must be a mapping")
    return content


def notebooks(root: Path) -> list[str]:
    """Give the names of the notebooks that the table of contents names, in its order."""
    return [
        file.removeprefix("notebooks/").removesuffix(".ipynb")
        for file in _files(load_yaml(root / "_toc.yml"))
        if file.startswith("notebooks/")
    ]


def _files(entry: Any) -> Iterator[str]:
    if isinstance(entry, dict):
        if "file" in entry:
            yield entry["file"]
        for value in entry.values():
            yield from _files(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from _files(value)


def public_remote(root: Path) -> str:
    """Give the address of the git remote `origin` where it is a plain https one, without an ending; else nothing."""
    command = ["git", "-C", str(root), "config", "--get", "remote.origin.url"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError:  # no git here: no remote to link to
        return ""
    match = _PUBLIC.fullmatch(done.stdout.strip())
    return f"https://{match['host']}/{match['name']}" if match else ""


def stage(root: Path, runs: Mapping[str, Path], target: Path, *, remote: str = "") -> None:
    """Write the staged book into an empty or missing folder.

    Args:
        root: The checkout, with `_config.yml`, `_toc.yml` and `book/`.
        runs: Finished run's folder by notebook name, one for every notebook of the table of contents.
        target: Where to.
        remote: Address of the public repository to link to, or nothing.

    Raises:
        NotebookFailed: An executed notebook holds an error or a cell that never ran.
        ChimeraError: A file of the book is missing or damaged, or prose quotes what nobody measured.
    """
    metrics = Metrics(runs, root / "book" / "recorded")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "_toc.yml", target / "_toc.yml")
    (target / "_config.yml").write_text(_config(root, remote), encoding="utf-8")
    for path in sorted((root / "book").rglob("*")):
        inside = path.relative_to(root)
        # Style sheets are found beside _config.yml only; metrics and bars come in by way of quotes and the table.
        if inside.parts[1] == "_static":
            inside = inside.relative_to("book")
        if path.is_dir() or inside.parts[1] == "recorded" or path.name == "figures.yml":
            continue
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            prose = tables.expand(path.read_text(encoding="utf-8"), metrics, str(inside))
            (target / inside).write_text(substitute(prose, metrics, str(inside)), encoding="utf-8")
        else:
            shutil.copyfile(path, target / inside)
    for name, folder in runs.items():
        _stage_notebook(name, folder, target, metrics, remote)
    bars = figures.load(root / "book" / "figures.yml")
    (target / "book" / "table-of-figures.md").write_text(figures.page(bars, metrics), encoding="utf-8")


def _config(root: Path, remote: str) -> str:
    """Take `_config.yml` as it is; where the repository is public, add the buttons that lead there."""
    import yaml

    config = load_yaml(root / "_config.yml")
    if remote:
        config["repository"] = {"url": remote, "branch": "main", "path_to_book": "."}
        config.setdefault("html", {})["use_repository_button"] = True
        if remote.startswith("https://github.com/"):
            config["launch_buttons"] = {
                "notebook_interface": "jupyterlab",
                "colab_url": "https://colab.research.google.com",
            }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _stage_notebook(name: str, folder: Path, target: Path, metrics: Metrics, remote: str) -> None:
    executed = folder / "executed.ipynb"
    if not executed.is_file():
        raise ChimeraError(f"{folder} holds no executed.ipynb: run it again with chimera run {name}")
    check_executed(executed)
    page = target / "notebooks" / f"{name}.ipynb"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(_page(read(executed), name, metrics, remote), indent=1), encoding="utf-8")
    pictures = target / "figures" / name
    for picture in sorted(folder.glob("*.png")):
        pictures.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, pictures / picture.name)


def _page(notebook: dict[str, Any], name: str, metrics: Metrics, remote: str) -> dict[str, Any]:
    """Make a page of an executed notebook: numbers quoted, plumbing folded, nothing that would need a kernel."""
    page = copy.deepcopy(notebook)
    # Timings and widget state differ from run to run, and the state would have the page load a widget manager.
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    kept = {key: page["metadata"][key] for key in ("language_info", "mystnb") if key in page["metadata"]}
    page["metadata"] = {**kept, "kernelspec": kernel}
    for cell in page["cells"]:
        metadata = {k: v for k, v in cell.get("metadata", {}).items() if k in ("tags", "mystnb")}
        if cell["cell_type"] == "markdown":
            source = _badge(text(cell), name, remote) if cell is page["cells"][0] else text(cell)
            cell["source"] = substitute(source, metrics, f"notebooks/{name}.ipynb")
        elif cell["cell_type"] == "code":
            if "injected-parameters" in metadata.get("tags", []):
                metadata["tags"] = sorted({*metadata["tags"], "hide-input"})
            cell["outputs"] = [output for output in map(_without_kernel, cell["outputs"]) if output is not None]
        cell["metadata"] = metadata
    return page


def _badge(source: str, name: str, remote: str) -> str:
    """Put a link to Colab under the title where the repository is on GitHub.

    A link in words, as the usual badge is a picture that every page would fetch from elsewhere.
    """
    if not remote.startswith("https://github.com/"):
        return source
    path = f"{remote.removeprefix('https://github.com/')}/blob/main/notebooks/{name}.ipynb"
    link = f"[Open in Colab](https://colab.research.google.com/github/{path})"
    return _TITLE.sub(lambda title: f"{title[0]}\n\n{link}", source, count=1)


def _without_kernel(output: dict[str, Any]) -> dict[str, Any] | None:
    """Drop what only a kernel could fill: a live widget, such as tqdm's progress bar; None where nothing is left."""
    data = output.get("data", {})
    if _WIDGET_VIEW not in data:
        return output
    rest = {kind: value for kind, value in data.items() if kind not in (_WIDGET_VIEW, "text/plain")}
    return {**output, "data": rest} if rest else None
