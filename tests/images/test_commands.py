"""The ``chimera images`` verbs: what they write, and one line for whatever the user can mend."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import psutil
import pytest
from PIL import Image

from chimera_lib import assets, cli, recorded
from chimera_lib.images import campaign, commands, submission
from chimera_lib.images.png import png_bytes, read_png
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget

SMALL = ["--model", "resnet20"]


@pytest.fixture
def images(capsys):
    """Runs ``chimera images ...`` as the command line does; gives exit status, output and error output."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["images", *map(str, words)])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def picture(tmp_path, pictures):
    path = tmp_path / "start.png"
    path.write_bytes(png_bytes(pictures[0]))
    return path


@pytest.fixture(scope="module")
def chimera(small_model, oracle, pictures) -> np.ndarray:
    found = lattice.search(small_model, pictures[0], oracle, Budget(), 0).chimera
    assert found is not None
    return found


@pytest.fixture
def archive(tmp_path, chimera, pictures):
    """A submission of four files, two of which are chimeras: its score is 0.5."""
    path = tmp_path / "half.zip"
    origins = [{"start": start, "predictions": {"openblas": 0, "blis": 1}} for start in (0, 1)]
    submission.pack([chimera, pictures[0]], path, origins, count=4)
    return path


def test_search_finds_and_writes_a_chimera(images, picture, oracle, pictures, tmp_path):
    output = tmp_path / "new" / "chimera.png"
    status, said, _ = images("search", picture, *SMALL, "--output", output)
    assert status == 0
    found = read_png(output, 32)
    assert oracle(found[None]).conflict.all()
    assert 0 < np.abs(found.astype(int) - pictures[0]).max() <= 8
    assert said.startswith(f"{output}: openblas says ") and ", blis says " in said
    assert "forward evaluations" in said and len(said.splitlines()) == 1
    assert [path.name for path in output.parent.iterdir()] == ["chimera.png"]


def test_search_that_finds_nothing_writes_nothing(images, picture, tmp_path):
    output = tmp_path / "new" / "chimera.png"
    status, said, _ = images("search", picture, *SMALL, "--output", output, "--evaluations", 3)
    assert status == 1
    assert said.startswith("no chimera found in 3 forward evaluations, 0 oracle calls; raise --evaluations")
    assert not output.parent.exists()


def wrong_image(kind: str, path) -> str:
    """Write an image that cannot be searched from; what the message says of it."""
    if kind == "16 bit":
        Image.fromarray(np.zeros((32, 32), np.uint16)).save(path)
        return "16-bit greyscale; expected 8-bit RGB"
    if kind == "16 bit RGB":
        path.write_bytes(png_bytes(np.zeros((32, 32, 3), np.uint8)).replace(b"\x08\x02\0\0\0", b"\x10\x02\0\0\0", 1))
        return "16-bit RGB; expected 8-bit RGB"
    if kind == "64x64":
        path.write_bytes(png_bytes(np.zeros((64, 64, 3), np.uint8)))
        return "64x64 pixels; expected 32x32"
    if kind == "jpeg":
        Image.new("RGB", (32, 32)).save(path, "JPEG")
        return "not a PNG file"
    if kind == "folder":
        path.mkdir()
    return "no such file"


@pytest.mark.parametrize("kind", ["16 bit", "16 bit RGB", "64x64", "jpeg", "folder", "missing"])
def test_wrong_images_are_refused(kind, images, tmp_path):
    path = tmp_path / "wrong.png"
    expected = wrong_image(kind, path)
    output = tmp_path / "out.png"
    refused(images("search", path, *SMALL, "--output", output), str(path), expected)
    assert not output.exists()


def refused(answer: tuple[int, str, str], *expected: str) -> None:
    status, _, error = answer
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1, error
    for part in expected:
        assert part in error


WRONG = {
    "strategy": (["search", "PNG", "--strategy", "latice"], "unknown strategy 'latice' (did you mean 'lattice'?)"),
    "model": (["search", "PNG", "--model", "resnet21"], "unknown model 'resnet21' (did you mean 'resnet20'?)"),
    "backend": (["search", "PNG", *SMALL, "--backends", "openblas,blas"], "unknown backend 'blas'"),
    "one backend": (["search", "PNG", *SMALL, "--backends", "openblas"], "two or more different backends"),
    "model to train": (["train", "--model", "vgg16"], "unknown model 'vgg16'"),
    "backend to show": (["backends", *SMALL, "--only", "openblas,mlk"], "did you mean 'mkl'"),
    "pair of one": (["verify", "ZIP", *SMALL, "--pair", "openblas"], "--pair openblas: expected two different"),
    "pair of equals": (["verify", "ZIP", *SMALL, "--pair", "blis,blis"], "--pair blis,blis: expected two different"),
    "pair of three": (["verify", "ZIP", *SMALL, "--pair", "a,b,c"], "--pair a,b,c: expected two different"),
    "unknown in pair": (["verify", "ZIP", *SMALL, "--pair", "openblas,mlk"], "unknown backend 'mlk'"),
    "model to verify": (["verify", "ZIP", "--model", "lenet"], "unknown model 'lenet'"),
    "no rounds": (["verify", "ZIP", *SMALL, "--rounds", "0"], "--rounds"),
    "missing zip": (["verify", "TMP/none.zip", *SMALL], "none.zip: no such file"),
    "no zip": (["verify", "PNG", *SMALL], "start.png: not a zip file"),
    "submit of no campaign": (["submit", "TMP", "--output", "TMP/s.zip"], "no rows.jsonl in it; name a folder"),
    "submit of nothing": (["submit", "TMP/none"], "no rows.jsonl in it"),
    "one start": (["compare", *SMALL, "--starts", "1"], "--starts"),
    "first below zero": (["compare", *SMALL, "--first", "-1"], "--first"),
    "none wanted": (["generate", *SMALL, "--unique", "0", "--output", "TMP/o"], "--unique"),
    "no evaluations": (["search", "PNG", *SMALL, "--evaluations", "0", "--output", "TMP/o"], "--evaluations"),
    "no oracle calls": (["search", "PNG", *SMALL, "--oracle-calls", "0", "--output", "TMP/o"], "--oracle-calls"),
    "unknown option": (["generate", "--uniqe", "3"], "--uniqe"),
    "no number": (["generate", "--unique", "many"], "'--unique': "),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line(words, expected, images, picture, archive, tmp_path):
    before = sorted(tmp_path.iterdir())
    places = {"PNG": str(picture), "ZIP": str(archive)}
    refused(images(*(places.get(word, word.replace("TMP", str(tmp_path))) for word in words)), expected)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["../000.png", "/000.png", "a/000.png"])
def test_verify_refuses_a_path_in_a_zip(name, images, tmp_path, pictures):
    path = tmp_path / "in" / "evil.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(name, png_bytes(pictures[0]))
    refused(images("verify", path, *SMALL), "evil.zip", repr(name), "expected flat names")
    assert sorted(tmp_path.rglob("*.png")) == []


def test_a_refusal_from_a_shell_has_no_traceback(tmp_path):
    """The same through a process of its own, where nothing of the tests' can hide a line."""
    command = [sys.executable, "-m", "chimera_lib.cli", "images", "search", tmp_path / "none.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    refused((done.returncode, done.stdout, done.stderr), "none.png: no such file")


def test_verify_scores_and_requires(images, archive, tmp_path):
    record = tmp_path / "score.json"
    status, said, error = images("verify", archive, *SMALL, "--require", 0.5, "--record", record)
    assert status == 0, error
    assert "score 0.5000 on 4 images (2 distinct); 2 round" in said and " equal to the bit" in said
    assert "NOT equal" not in said
    assert "no chimeras: 001.png, 003.png\n" in said
    score = recorded.read(record)["metrics"]["score"]
    assert score == {"value": 0.5, "n": 2}, "no interval for images chosen on these very backends"
    archive.with_suffix(".json").unlink()
    words = ["--rounds", 1, "--require", 0.51, "--record", record]
    assert images("verify", archive, *SMALL, *words)[0] == 1
    score = recorded.read(record)["metrics"]["score"]
    assert score["ci"] == pytest.approx([1 - 0.975**0.5, 0.975**0.5]), "Clopper and Pearson's for 1 of 2"


@pytest.fixture
def few(monkeypatch, pictures):
    """The test pictures stand for CIFAR-10's."""
    monkeypatch.setattr(commands.search, "start_images", lambda *_: pictures)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without_times(files: dict[str, bytes]) -> list[dict[str, object]]:
    return [json.loads(line) | {"cpu_seconds": 0} for line in files["rows.jsonl"].splitlines()]


def test_generate_twice_gives_the_same_and_searches_once(few, images, tmp_path, monkeypatch):
    words = ["generate", *SMALL, "--unique", 2, "--evaluations", 1500, "--output"]
    status, said, _ = images(*words, tmp_path / "a")
    assert status == 0 and said.startswith("2 chimeras from ")
    first = contents(tmp_path / "a")
    assert images(*words, tmp_path / "b")[0] == 0
    second = contents(tmp_path / "b")
    assert without_times(first) == without_times(second)
    assert first.pop("rows.jsonl") and second.pop("rows.jsonl")
    assert first == second

    def never(*_):
        raise AssertionError("searched again what is there")

    never.__module__ = lattice.__name__
    monkeypatch.setattr(campaign, "strategy", lambda name: never)
    before = contents(tmp_path / "a")
    assert images(*words, tmp_path / "a")[:2] == (0, said)
    assert contents(tmp_path / "a") == before


def test_generate_submit_verify(few, images, tmp_path):
    folder, path = tmp_path / "made", tmp_path / "s.zip"
    assert images("generate", *SMALL, "--unique", 2, "--output", folder)[0] == 0
    status, said, _ = images("submit", folder, "--count", 5, "--output", path)
    assert status == 0 and said.startswith(f"{path}: 5 images, 2 of them distinct; manifest {tmp_path / 's.json'}")
    first = path.read_bytes()
    assert images("submit", folder, "--count", 5, "--output", path)[0] == 0
    assert path.read_bytes() == first
    status, said, _ = images("verify", path, *SMALL, "--require", 1)
    assert status == 0 and "score 1.0000 on 5 images (2 distinct)" in said


def test_generate_refuses_other_settings_and_too_few_starts(few, images, tmp_path):
    words = ["generate", *SMALL, "--evaluations", 3, "--output", tmp_path / "made"]
    status, said, error = images(*words, "--unique", 3)
    assert (status, said) == (2, "")
    assert error.splitlines()[-1].startswith("error: 0 chimeras from 12 starts; 3 were asked for")
    refused(images(*words, "--unique", 3, "--seed", 1), "other settings", str(tmp_path / "made"))


def test_half_a_campaign_and_a_file_for_a_folder_are_refused(few, images, tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    refused(images("submit", tmp_path, "--output", tmp_path / "s.zip"), "campaign.json")
    (tmp_path / "file").write_text("kept")
    refused(images("generate", *SMALL, "--unique", 1, "--output", tmp_path / "file"), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


def test_compare_prints_and_records(few, images, tmp_path):
    words = ["compare", *SMALL, "--strategies", "lattice", "--first", 3, "--starts", 2, "--evaluations", 1500]
    record = tmp_path / "compare.json"
    status, said, _ = images(*words, "--output", tmp_path / "rows", "--record", record)
    assert status == 0
    assert said.splitlines()[1].startswith("lattice ") and said.splitlines()[-1] == f"metrics in {record}"
    assert [row.start for row, _ in campaign.load(tmp_path / "rows" / "lattice").values()] == [3, 4]
    assert recorded.read(record)["metrics"]["lattice_rate"]["n"] == 2
    refused(images("compare", *SMALL, "--first", 11, "--starts", 2), "expected at most 12")


def test_a_killed_generate_goes_on(images, tmp_path, oracle):
    """Killed twice at random moments: what was whole stays as it is, and the third run finishes the work."""
    if not assets.present("cifar10"):
        pytest.skip("cifar10 is not in the cache")
    unique, folder = 8, tmp_path / "made"
    words = ["generate", *SMALL, "--unique", str(unique), "--output", str(folder)]
    command = [sys.executable, "-m", "chimera_lib.cli", "images", *words]
    kept = b""
    for done in (1, 3):
        pause = random.SystemRandom().uniform(0, 0.5)
        kill_when(command, folder / "rows.jsonl", lines=done, pause=pause)
        rows = (folder / "rows.jsonl").read_bytes()
        assert rows.startswith(kept)
        kept = rows[: rows.rfind(b"\n") + 1]
    whole = {path: path.read_bytes() for path in folder.glob("*.png")}
    assert len(kept.splitlines()) >= 3
    status, said, error = images(*words)
    assert status == 0, error
    assert said.startswith(f"{unique} chimeras from ")
    assert (folder / "rows.jsonl").read_bytes().startswith(kept)
    assert all(path.read_bytes() == content for path, content in whole.items())
    _, made = campaign.origins(folder)
    assert len({image.tobytes() for image in made}) >= unique
    assert oracle(np.stack(made)).conflict.all()


def kill_when(command: list[str], rows, lines: int, pause: float) -> None:
    """Start a command, kill -9 it ``pause`` seconds after ``rows`` has so many lines, and see its workers end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not rows.is_file() or rows.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(pause)
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left, "a worker outlives the command it worked for"
