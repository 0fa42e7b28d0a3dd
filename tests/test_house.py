"""The house rules: sizes, notebooks without outputs, clean tools, complete constraints, skips with reasons."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
LONGEST = 320  # lines
LARGEST = 1_000_000  # bytes
WEIGHTS = 30_000_000  # bytes


def files(*patterns: str) -> list[Path]:
    """The project's own files: what git tracks, and what it neither tracks nor ignores."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    if shutil.which("git") is None or not (PROJECT / ".git").exists():
        pytest.skip("this is no git checkout")
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [PROJECT / name for name in names if (PROJECT / name).is_file()]


def notebooks() -> list[Path]:
    return sorted((PROJECT / "notebooks").rglob("*.ipynb"))


def test_no_file_is_too_long_to_read() -> None:
    long = {str(p): n for p in files("*.py") if (n := len(p.read_text().splitlines())) > LONGEST}
    assert not long, f"over {LONGEST} lines: would a reader find two things in them?"


def test_no_large_file_is_kept() -> None:
    large = {p.name: p.stat().st_size for p in files() if p.stat().st_size > LARGEST and p.suffix != ".safetensors"}
    assert not large
    assert sum(p.stat().st_size for p in files("*.safetensors")) < WEIGHTS


def test_no_drawer_for_everything() -> None:
    assert not [p for p in files("*.py") if p.stem in {"utils", "util", "common", "helpers", "misc"}]


def test_there_are_notebooks() -> None:
    assert notebooks()


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebook_has_no_outputs_and_one_parameters_cell(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not [i for i, cell in enumerate(code) if cell["outputs"] or cell["execution_count"] is not None]
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) == 1


def test_the_commit_hook_finds_nothing_to_strip() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (entry,) = [hook["entry"].split() for hook in hooks if hook["id"] == "nbstripout"]
    command = [TOOLS / Path(entry[0]).name, *entry[1:], "--verify", "--dry-run", *notebooks()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_notebook_calls_the_library_for_its_logic(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and not source.lstrip().startswith(("%", "!")):
            assert source.count("\n") < 25, source
            longest = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
            assert all((n.end_lineno or n.lineno) - n.lineno < 8 for n in longest), source


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["lint-imports"]],
    ids=lambda words: " ".join(words),
)
def test_tool_is_content(command: list[str]) -> None:
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_library_imports_nothing_heavy() -> None:
    code = "import sys, chimera_lib, chimera_lib.assets, chimera_lib.data_commands; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "numpy", "onnxruntime", "jax", "matplotlib"} & set(loaded)


def pins() -> dict[str, str]:
    """Package -> version of constraints.txt."""
    lines = [line for line in (PROJECT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    return {canonicalize_name(name): number for name, number in (line.split("==") for line in lines)}


def test_constraints_are_sorted_and_exact() -> None:
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: canonicalize_name(line.partition("==")[0]))


def test_constraints_name_everything_that_is_installed_with_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(r) for r in [*project["dependencies"], *extras["backends"], *extras["dev"]]]
    seen: set[tuple[str, str]] = set()
    missing, other = set(), {}
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # another platform's: `make test` has installed all that this one needs
            if name not in pins() and name not in {"pip", "setuptools"}:
                missing.add(name)
            elif name in pins() and found.version.partition("+")[0] != pins()[name]:
                other[name] = found.version
            requirements = [Requirement(r) for r in found.requires or []]
            waiting += [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]
    assert not missing
    assert not other, "installed in versions other than those of constraints.txt"


def reasons(tree: ast.AST) -> list[str]:
    """Every reason given to pytest.skip, skipif and importorskip; of an f-string its longest literal piece."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in {"skip", "skipif", "importorskip"}:
            texts = [k.value for k in call.keywords if k.arg in {"reason", "msg"}]
            if not texts and name == "skip":
                texts = call.args[:1]
            if not texts and name == "importorskip":
                texts = [ast.Constant(f"could not import {ast.literal_eval(call.args[0])!r}")]  # pytest's own words
            nodes = [[n for n in ast.walk(text) if isinstance(n, ast.Constant)] for text in texts]
            pieces = [[str(n.value) for n in constants] for constants in nodes]
            found += [max(p, key=len) for p in pieces if p] or [f"line {call.lineno}: no reason"]
    return found


def test_every_skip_is_listed_with_its_reason() -> None:
    listed = (PROJECT / "tests" / "SKIPS.md").read_text()
    given = {r for path in (PROJECT / "tests").rglob("*.py") for r in reasons(ast.parse(path.read_text()))}
    assert not [reason for reason in given if reason.strip() not in listed]
    rows = [row.split("|")[1].strip() for row in listed.splitlines() if row.startswith("|")][2:]
    assert not [row for row in rows if not any(reason.strip() in row for reason in given)], (
        "listed, but no test says so"
    )


def test_the_reasons_are_really_found() -> None:
    source = (
        "pytest.skip(f'no {x} is here')\n@pytest.mark.skipif(True, reason='why')\ndef t(): pytest.importorskip('ray')"
    )
    assert sorted(reasons(ast.parse(source))) == [" is here", "could not import 'ray'", "why"]
