"""What the page on clusters tells a reader to type is what the commands understand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chimera_lib import cli
from chimera_lib.runs import sweep_file

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "book" / "clusters.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(start: str) -> list[list[str]]:
    """The words of every command that begins so, in the page's scripts and in its manifest."""
    scripts = [block.replace("\\\n", " ") for block in blocks("bash")]
    scripts += [yaml.safe_load(blocks("yaml")[2])["spec"]["entrypoint"]]
    found = [line[line.index(start) :] for script in scripts for line in script.splitlines() if start in line]
    return [[word for word in shlex.split(line, comments=True) if word != "&"] for line in found]


@pytest.mark.parametrize("number", [0, 1])
def test_the_sweep_files_of_the_page_are_read(number: int, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yml"
    path.write_text(blocks("yaml")[number])
    sweep = sweep_file.read(path)
    assert len(sweep.jobs_of(ROOT)) == [8, 4][number]


def test_every_key_has_a_row() -> None:
    assert all(f"`{key}`" in PAGE or f"\n{key}:" in PAGE for key in sweep_file.KEYS)


@pytest.mark.parametrize("words", lines("chimera sweep"), ids=" ".join)
def test_every_sweep_of_the_page_can_be_prepared(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    here = [word if not word.startswith("s3://") else str(tmp_path) for word in words[1:]]
    with pytest.raises(SystemExit) as end:
        cli.main([*here, *(() if "--dry-run" in here else ("--dry-run",)), "--output", str(tmp_path)])
    assert end.value.code == 0
    assert re.search(r"\d+ cells, 0 done, \d+ to do", capsys.readouterr().out)


def test_ray_knows_the_options_of_the_page() -> None:
    pytest.importorskip("ray")
    script = "from ray.scripts.scripts import start; print(*[o for p in start.params for o in p.opts])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    commands = lines("ray start")
    assert len(commands) == 4
    used = {word.partition("=")[0] for words in commands for word in words if word.startswith("--")}
    assert used <= set(done.stdout.split())


def test_the_script_for_slurm_is_a_script(tmp_path: Path) -> None:
    [script] = [block for block in blocks("bash") if block.startswith("#!")]
    (tmp_path / "sweep.sh").write_text(script)
    subprocess.run(["bash", "-n", tmp_path / "sweep.sh"], check=True)


def test_the_manifest_names_the_installed_ray_and_is_whole() -> None:
    manifest: dict[str, Any] = yaml.safe_load(blocks("yaml")[2])
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    cluster = manifest["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert len(images) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks" / "sweeps").glob("*.yml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_project_can_be_prepared(path: Path) -> None:
    jobs = sweep_file.read(path).jobs_of(ROOT)
    assert len({job.id for job in jobs}) == len(jobs) >= 10
