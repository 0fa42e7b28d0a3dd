"""The benchmarks run in miniature, print what they promise, and refuse what they cannot measure."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib import cifar10, recorded
from chimera_lib.errors import AssetMissing
from chimera_lib.images.campaign import Row
from chimera_lib.ternary import allocator

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPT = FOLDER / "images.py"
TINY = ["--starts", "2", "--sides", "32", "--networks", "resnet20", "--evaluations", "60", "--oracle-calls", "4"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_images", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


def call(*words: str, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120)


def row(evaluations: int, found: bool, start: int = 0) -> Row:
    return Row(start, found, evaluations, 1, evaluations / 100, None)


def test_a_tiny_run_prints_its_tables_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    try:
        cifar10.load()
    except AssetMissing:
        pytest.skip("cifar10 is not in the cache")
    record = tmp_path / "record.json"
    words = [*TINY, "--questions", "pixels", "backends", "--output", str(tmp_path / "out"), "--record", str(record)]
    first = call(*words)
    assert first.returncode == 0, first.stderr
    for title in ("Search cost against number of pixels", "Search cost against number of backends"):
        assert title in first.stdout
    for strategy in ("lattice", "hardware_in_the_loop", "boundary_straight_through", "dense_multiscale"):
        assert f"resnet20-32-2-backends {strategy} " in " ".join(first.stdout.split())
    assert "resnet20-32-4-backends lattice : resnet20-32-2-backends" in first.stdout
    assert "resnet20-32-2-backends dense_multiscale : lattice" in first.stdout
    metrics = recorded.read(record)["metrics"]
    cost = metrics["pixels_resnet20_32_2_backends_dense_multiscale_evaluations"]
    assert cost["n"] == 2 and 0 < cost["value"] <= 60 and cost["ci"][0] <= cost["value"] <= cost["ci"][1]
    assert metrics["pixels_resnet20_32_2_backends_dense_multiscale_evaluations_bound"]["value"] == ">="
    again = call(*words)
    assert again.stdout == first.stdout  # CPU-seconds and all: nothing was searched twice


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--starts", "1"], "1: expected a whole number from 2 to 1000"),
        (["--sides", "16"], "16: expected a whole number from 32 to 224"),
        (["--networks", "vgg"], "invalid choice: 'vgg'"),
        (["--questions", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_bad_input_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        script.arguments(words)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    try:
        cifar10.load()
    except AssetMissing:
        pytest.skip("cifar10 is not in the cache")
    (tmp_path / "file").write_text("in the way")
    done = call(*TINY, "--questions", "depth", "--output", str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_a_median_that_unfinished_searches_could_move_is_marked(script: ModuleType) -> None:
    most_found = [row(10, True), row(20, True), row(100, False)]
    assert script.cost(most_found, "evaluations").bound == ""  # the median is 20, however long the third would take
    few_found = [row(10, True), row(90, False), row(100, False)]
    assert str(script.cost(few_found, "evaluations")).startswith(">=90 [")
    ended_early = [row(10, False), row(20, True), row(30, True)]
    assert script.cost(ended_early, "evaluations").bound == ">="


def test_a_ratio_is_paired_by_start_and_says_which_way_it_could_move(script: ModuleType) -> None:
    ours = [row(10, True, 0), row(100, True, 1), row(40, True, 2), row(7, True, 3)]
    peer = [row(30, True, 0), row(300, True, 1), row(120, True, 2)]
    figure = script.ratio(peer, ours, "evaluations")
    assert (figure.value, figure.n, figure.bound) == (3.0, 3, "")
    lost = [row(50, False, i) for i in range(3)]
    assert script.ratio(lost, ours, "evaluations").bound == ">="
    assert script.ratio(ours, lost, "evaluations").bound == "<="
    assert script.ratio(lost, lost, "evaluations").bound == "~"


def test_photographs_and_enlarged_pictures_have_the_settings_side(script: ModuleType) -> None:
    try:
        original = cifar10.load()["train_images"][49_000:49_003]
    except AssetMissing:
        pytest.skip("cifar10 is not in the cache")
    same = script.pictures_of(script.Setting("g", "resnet20", 32), 3)
    assert (same == original).all()
    large = script.pictures_of(script.Setting("g", "resnet20", 48), 3)
    assert large.shape == (3, 48, 48, 3) and large.dtype == np.uint8
    assert abs(large.mean() - original.mean()) < 3


STEP = ["--sizes", "resnet20", "--cases", "as_published", "one_by_one", "--repeats", "2"]
LAYERS = ["--cases", "chimera", "lsq", "--batch", "2", "--side", "8", "--repeats", "2"]
MINIATURES: dict[str, tuple[list[str], list[str], list[str]]] = {  # words, what is printed, metrics
    "ternary_optimizer.py": (
        STEP,
        ["wall time of a step, 1 thread(s); medians of 2 repeats", "AdamW(foreach)", "bar 1.5"],
        ["resnet20_as_published_ratio", "resnet20_one_by_one_ratio"],
    ),
    "ternary_layers.py": (
        [*LAYERS, "--allocator", "default", "keep"],
        ["freed memory is handled as the C library does by default", "bar 1.15"],
        ["chimera_ratio_default_allocator", "lsq_ratio_default_allocator"],
    ),
    "ternary_packed.py": (
        ["--size", "16", "--batch", "2", "--turns", "2"],
        ["vector of 16", "batch of 2 x 16", "times smaller than fp32"],
        ["vector_2bit_over_fp32", "batch_base3_over_fp32", "vector_bf16_over_fp32"],
    ),
}


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_of_part_iii_prints_and_records_its_ratios_and_its_command(name: str, tmp_path: Path) -> None:
    words, printed, metrics = MINIATURES[name]
    record = tmp_path / "record.json"
    done = call(f"--record={record}", *words, script=FOLDER / name)
    assert done.returncode == 0, done.stderr
    for text in printed:
        assert text in done.stdout
    content = recorded.read(record)
    assert content["command"] == shlex.join(["python", f"benchmarks/{name}", *words, "--record", str(record)])
    for metric in metrics:
        ratio = content["metrics"][metric]
        assert ratio["n"] == 2 and 0 < ratio["ci"][0] <= ratio["value"] <= ratio["ci"][1]


def test_where_memory_can_be_kept_both_conditions_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if allocator.keep_memory():
        record = tmp_path / "record.json"
        script = FOLDER / "ternary_layers.py"
        done = call(*LAYERS, "--record", str(record), script=script)
        assert done.returncode == 0 and "freed memory is kept" in done.stdout
        assert set(recorded.read(record)["metrics"]) == {"chimera_ratio", "lsq_ratio"}
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4000000000")
    refused = call(*LAYERS, "--allocator", "default", script=FOLDER / "ternary_layers.py")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: --allocator default with MALLOC_TRIM_THRESHOLD_ set")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("ternary_optimizer.py", ["--repeats", "1"], "1: expected a whole number from 2 to 1000"),
        ("ternary_optimizer.py", ["--cases", "adam"], "invalid choice: 'adam'"),
        ("ternary_layers.py", ["--side", "0"], "0: expected a whole number from 4 to 4096"),
        ("ternary_layers.py", ["--allocator", "mine"], "invalid choice: 'mine'"),
        ("ternary_packed.py", ["--threads", "-1"], "-1: expected a whole number from 1 to 256"),
        ("ternary_packed.py", ["--record", "/"], "/: expected a file to write"),
        ("ternary_layers.py", ["--record", __file__ + "/record.json"], "expected a file to write"),
    ],
)
def test_what_a_benchmark_of_part_iii_cannot_measure_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, words: list[str], said: str
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location(f"benchmark_{Path(name).stem}", FOLDER / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(SystemExit) as refused:
        module.arguments(words)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
