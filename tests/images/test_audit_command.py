"""``chimera images audit``: what it writes, its exit status, its page, and one line for whatever can be mended."""

from __future__ import annotations

import html.parser
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from chimera_lib import cli
from chimera_lib.images.png import png_bytes, read_png
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget

NASTY = '<b onload="x">&amp; "q" \'s\'.png'


@pytest.fixture
def run(capsys):
    """Runs ``chimera images audit ...`` on the small model; gives exit status, output and error output."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["images", "audit", *map(str, words)])
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def folder(tmp_path, pictures):
    root = tmp_path / "pictures"
    root.mkdir()
    for number, image in enumerate(pictures[1:4]):
        (root / f"{number}.png").write_bytes(png_bytes(image))
    (root / NASTY).write_bytes(png_bytes(pictures[5]))
    return root


@pytest.fixture(scope="module")
def chimera(small_model, oracle, pictures):
    found = lattice.search(small_model, pictures[0], oracle, Budget(), 0).chimera
    assert found is not None
    return found


def words(folder, output) -> list[object]:
    return ["--model", "resnet20", "--images", folder, "--output", output, "--backends", "openblas,blis"]


class Page(html.parser.HTMLParser):
    """Collects the tags of a page and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_agreement_is_status_0_and_a_report(run, folder, tmp_path):
    status, said, _ = run(*words(folder, tmp_path / "out"))
    assert status == 0
    assert said.startswith("These 2 backends agree on all 4 images")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["exit_code"] == 0 and report["conflicts"]["count"] == 0 and report["expected"] is None
    assert report["conflicts"]["ci"] == pytest.approx([0, 1 - 0.025**0.25])
    assert {one["name"] for one in report["margins"]["nearest"]} == {"0.png", "1.png", "2.png", NASTY}
    assert [one["name"] for one in report["backends"]] == ["openblas", "blis"]


def test_the_page_stands_alone_and_escapes_names(run, folder, tmp_path):
    run(*words(folder, tmp_path / "out"))
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert not {"script", "link", "iframe", "b "} & {tag for tag, _ in page.tags}
    assert not [attributes for _, attributes in page.tags if "onload" in attributes]
    sources = [value for _, a in page.tags for key, value in a.items() if key in ("src", "href", "srcset")]
    assert len(sources) >= 5 and all(value.startswith("data:image/png;base64,") for value in sources)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert NASTY in page.text


def test_a_chimera_in_the_folder_is_status_1(run, folder, chimera, tmp_path):
    (folder / "chimera.png").write_bytes(png_bytes(chimera))
    status, said, _ = run(*words(folder, tmp_path / "out"), "--json")
    assert status == 1
    report = json.loads(said)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    (conflict,) = report["conflicts"]["images"]
    assert conflict["name"] == "chimera.png" and conflict["confirmed"]
    assert conflict["classes"]["openblas"] != conflict["classes"]["blis"]
    assert report["verdict"].startswith("1 of 5 images gets different classes from these 2 backends.")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert [alt for _, a in page.tags if (alt := a.get("alt") or "").startswith("chimera.png: openblas: ")]


def test_what_is_made_fails_only_where_asked(run, folder, tmp_path):
    searching = [*words(folder, tmp_path / "out"), "--search", "1"]
    status, said, _ = run(*searching)
    assert status == 0 and "A conflict can be made from 1 of 1 images" in said
    assert read_png(tmp_path / "out" / "made" / "000.png", 32).shape == (32, 32, 3)
    assert run(*searching, "--fail-on", "searched")[0] == 1
    assert run(*words(folder, tmp_path / "out"))[0] == 0
    assert not list((tmp_path / "out" / "made").iterdir()), "an earlier audit's chimeras went with its report"


DYING = """
NAME = "dying"
LIBRARY = "numpy"
INSTALL = "nothing"

def start(network, options, executor):
    import os
    return lambda image: os._exit(3), {"version": "1", "kernels": "none", "path": __file__}
"""


def test_a_lost_backend_is_not_taken_for_agreement(run, folder, chimera, tmp_path, monkeypatch):
    """It answered nothing, so the others' agreement says nothing of it: named, and status 2; a conflict stays one."""
    path = tmp_path / "dying.py"
    path.write_text(DYING)
    monkeypatch.setenv("CHIMERA_BACKENDS", str(path))
    asked = [*words(folder, tmp_path / "out")[:-1], "openblas,blis,dying"]
    status, said, _ = run(*asked)
    assert status == 2
    assert said.startswith("These 2 backends agree on all 4 images")
    assert "dying was lost and answered for 0 of them only." in said.splitlines()[0]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["exit_code"] == 2 and "status 3" in report["lost"]["dying"]
    (folder / "chimera.png").write_bytes(png_bytes(chimera))
    assert run(*asked)[0] == 1


def test_files_of_other_people_stay(run, folder, tmp_path):
    """An audit takes out what the earlier report names, and nothing else; a foreign report is an error."""
    output = tmp_path / "out"
    theirs = [output / "made" / "123.png", output / "unfinished" / "precious.txt", output / "notes.txt"]
    for path in theirs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for _ in range(2):
        assert run(*words(folder, output), "--search", "1")[0] == 0
        assert {path.name for path in (output / "made").iterdir()} == {"000.png", "123.png"}
    assert all(path.read_text() == "mine" for path in theirs)
    (output / "report.json").write_text('{"annual": 3}')
    status, _, error = run(*words(folder, output))
    assert status == 2 and "report.json is no audit's report; move it or name another --output" in error
    (output / "report.json").unlink()
    status, _, error = run(*words(folder, output))
    assert status == 2 and "report.html is in the way" in error and (output / "report.html").is_file()


def test_an_onnx_file_gives_what_the_name_gives(run, folder, small_network, tmp_path):
    from chimera_lib.images.network import to_onnx

    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(small_network))
    named = json.loads(run(*words(folder, tmp_path / "a"), "--json")[1])
    read = json.loads(run("--model", path, *words(folder, tmp_path / "b")[2:], "--json")[1])
    for key in ("smallest", "median"):  # ONNX keeps a batch norm's numbers its own way, up to rounding
        assert read["margins"][key] == pytest.approx(named["margins"][key], abs=1e-5)
    assert read["model"]["name"] == "m.onnx" and read["class_names"] is None


WRONG = {
    "model": (["--model", "resnet21"], "did you mean 'resnet20'"),
    "missing model": (["--model", "TMP/none.onnx"], "none.onnx: no such file"),
    "not ONNX": (["--model", "TMP/pictures/0.png"], "0.png is no model that can be read"),
    "backend": (["--backends", "openblas,bliss"], "did you mean 'blis'"),
    "one backend": (["--backends", "openblas"], "two or more different backends"),
    "output": (["--output", "TMP/pictures"], "is the folder of the images; name another"),
    "no folder": (["--images", "TMP/none"], "none: no such folder"),
    "empty folder": (["--images", "TMP/empty"], "no image in it"),
    "unreadable": (["--images", "TMP/broken"], "none of 1 images can be read"),
    "size": (["--images", "TMP/large"], "40x40 pixels; the network takes 32x32"),
    "normalise": (["--normalise", "imgnet"], "--normalise imgnet"),
    "labels": (["--labels", "TMP/none.txt"], "--labels"),
    "limit": (["--limit", "0"], "--limit"),
    "fail on": (["--fail-on", "all"], "--fail-on"),
}


@pytest.mark.parametrize(("other", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_status_2_and_one_line(other, expected, run, folder, tmp_path):
    from PIL import Image

    for name in ("empty", "broken", "large"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"\x89PNG\r\n")
    Image.new("RGB", (40, 40)).save(tmp_path / "large" / "a.png")
    other = [word.replace("TMP", str(tmp_path)) for word in other]
    status, said, error = run(*words(folder, tmp_path / "out"), *other)
    assert (status, said) == (2, "")
    assert expected in error and len(error.splitlines()) == 1, error
    assert not list((tmp_path / "out").glob("report*"))


@pytest.mark.parametrize("wrong", [["--backends", "openblas,bliss"], ["--backends", "openblas"]])
def test_an_audit_that_never_starts_leaves_the_earlier_report(wrong, run, folder, tmp_path):
    run(*words(folder, tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(before) == 2
    assert run(*words(folder, tmp_path / "out"), *wrong)[0] == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


STAGES = {
    "load": "reading the model resnet20",
    "folder": "reading the images in",
    "audit": "asking the backends",
}


@pytest.mark.parametrize("error", [IndexError("list index\nout of range"), OSError("no name"), SystemExit(1)], ids=repr)
@pytest.mark.parametrize(("stage", "named"), STAGES.items(), ids=STAGES)
def test_a_crash_is_not_taken_for_a_conflict(stage, named, error, run, folder, tmp_path, monkeypatch):
    """Status 1 says that there are conflicts; a fault of the program or of a model's code is status 2."""
    from chimera_lib.images import audit

    def crash(*_, **__):
        raise error

    monkeypatch.setattr(audit, stage, crash)
    status, said, complaint = run(*words(folder, tmp_path / "out"))
    assert (status, said) == (2, "")
    assert complaint.startswith(f"error: {named}") and len(complaint.splitlines()) == 1
    assert f"failed with {type(error).__name__}: " in complaint and "(at test_audit_command.py:" in complaint


def test_ctrl_c_is_no_crash(run, folder, tmp_path, monkeypatch):
    from chimera_lib.images import audit

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "audit", interrupted)
    assert run(*words(folder, tmp_path / "out"))[0] == 130


SLOW = """
NAME = "slow"
LIBRARY = "numpy"
INSTALL = "nothing"

def start(network, options, executor):
    import os, time
    import numpy as np
    run = executor.Executor(*executor.read(network), lambda a, b, out: np.matmul(a, b, out=out))

    def predict(image):
        if os.path.exists({flag!r}):
            time.sleep(0.05)
        return run.predict(image)

    return predict, {{"version": "1", "kernels": "none", "path": __file__}}
"""


def test_ctrl_c_leaves_no_report_and_the_next_run_finishes(run, folder, pictures, tmp_path, monkeypatch):
    """One backend takes its time until the signal, so that the audit cannot be over before."""
    output, flag = tmp_path / "out", tmp_path / "slowly"
    (tmp_path / "slow.py").write_text(SLOW.format(flag=str(flag)))
    monkeypatch.setenv("CHIMERA_BACKENDS", str(tmp_path / "slow.py"))
    asked = [*words(folder, output)[:-1], "openblas,slow"]
    assert run(*asked)[0] == 0
    flag.touch()
    for number in range(600):
        (folder / f"more {number:03d}.png").write_bytes(
            png_bytes((pictures[number % 12] + number % 50).astype("uint8"))
        )
    command = [sys.executable, "-m", "chimera_lib.cli", "images", "audit", *map(str, asked)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list(output.glob(".chimera-audit/*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, error = process.communicate(timeout=60)
    assert process.returncode == 130 and said == "" and "interrupted" in error
    assert not psutil.wait_procs(workers, timeout=20)[1], "a worker outlives the audit"
    flag.unlink()
    kept = {path: path.stat().st_mtime_ns for path in output.glob(".chimera-audit/*.npz")}
    assert kept and not list(output.glob("report*")), "the report of the earlier audit has gone"
    assert run(*asked)[0] == 0
    assert sorted(path.name for path in output.iterdir()) == ["report.html", "report.json"]
    assert json.loads((output / "report.json").read_text())["images"]["n"] == 604
