"""``compare-optimizers`` and ``stress-suite`` as a user types them: what they print, write and refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chimera_lib import cli, recorded
from chimera_lib.ternary.experiments import log

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--steps", "3", "--seeds", "2", "--tuning-seeds", "1", "--optimizers", "chimera21,lion"]


def chimera(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(["ternary", *map(str, words)])
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.mark.parametrize("problem", ["regression", "sparse_relu", "noisy_quadratic", "saddle"])
def test_compare_optimizers_tunes_logs_and_records(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, problem: str
) -> None:
    kept = ["--log-jsonl", tmp_path / "a.jsonl", "--record", tmp_path / "r.json", "--log-every", 2]
    options = ["--sparsity", "0.5", "--noise-scale", "2.0"]
    status, out, _ = chimera(capsys, "compare-optimizers", "--problem", problem, *SMALL, *options, *kept)
    assert status == 0 and "to AdamW" in out and "lion" in out and "grams" not in out
    found = recorded.read(tmp_path / "r.json")
    assert found["metrics"][f"{problem}_chimera21_difference"]["n"] == 2
    records = log.read(tmp_path / "a.jsonl")
    assert [one["record_type"] for one in records].count("final") == 3 * 2
    assert {one["problem"] for one in records} == {problem}
    assert {one["sparsity"] for one in records} == {0.5 if problem == "sparse_relu" else None}


def test_a_given_rate_is_everybodys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*SMALL, "--learning-rate", "0.02", "--record", tmp_path / "r.json"]
    assert chimera(capsys, "compare-optimizers", *words)[0] == 0
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert {metrics[f"regression_{name}_learning_rate"]["value"] for name in ("adamw", "lion", "chimera21")} == {0.02}


def test_the_suite_goes_on_in_its_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["stress-suite", *SMALL, "--output", tmp_path / "suite", "--record", tmp_path / "r.json"]
    status, out, _ = chimera(capsys, *words, "--log-jsonl", tmp_path / "a.jsonl")
    assert status == 0 and "each at its own learning rate" in out and "all at the learning rate 0.01" in out
    rows = (tmp_path / "suite" / "rows.jsonl").read_bytes()
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert {f"{name}_lion_difference" for name in ("regression", "sparse_relu", "noisy_quadratic", "saddle")} <= set(
        metrics
    )
    assert {"shared_saddle_chimera21_difference", "matched_saddle_chimera21_difference", "suite_worse"} <= set(metrics)
    again = chimera(capsys, *words)
    assert again[:2] == (status, out) and (tmp_path / "suite" / "rows.jsonl").read_bytes() == rows


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--problem", "sadle"], "unknown problem 'sadle' (did you mean 'saddle'?)"),
        (["--steps", "0"], "0; expected at least 1"),
        (["--steps", "x"], "'--steps': Input should be a valid integer"),
        (["--seeds", "0"], "0; expected 1 to 1000"),
        (["--seeds", "1"], "1 seeds to report from seed 0: expected at least 2"),
        (["--tuning-seeds", "0"], "0; expected at least 1"),
        (["--sparsity", "1.0"], "sparsity 1.0: expected a share"),
        (["--sparsity", "-0.1", "--problem", "sparse_relu"], "sparsity -0.1"),
        (["--sparsity", "nan"], "sparsity nan"),
        (["--noise-scale", "-1"], "noise scale -1.0"),
        (["--noise-scale", "inf", "--problem", "noisy_quadratic"], "noise scale inf"),
        (["--optimizers", "lion,adam"], "unknown optimizer 'adam'"),
        (["--optimizers", "lion,lion"], "expected different names"),
        (["--optimizers", ","], "expected different names"),
        (["--learning-rate", "-0.1"], "--learning-rate -0.1: expected"),
        (["--learning-rate", "nan"], "--learning-rate nan: expected"),
        (["--learning-rate", "inf"], "--learning-rate inf: expected"),
        (["--log-jsonl", "/proc/none/a.jsonl"], "--log-jsonl /proc/none/a.jsonl"),
        (["--log-every", "0"], "0; expected at least 1"),
    ],
    ids=" ".join,
)
def test_bad_input_of_compare_optimizers(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str, tmp_path: Path
) -> None:
    status, out, err = chimera(capsys, "compare-optimizers", *SMALL, *words, "--record", tmp_path / "r.json")
    assert status == 2 and said in err and err.startswith("error: ") and err.count("\n") == 1
    assert out == "" and not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "0"], "0; expected at least 1"),
        (["--seeds", "1"], "1 seeds to report"),
        (["--tuning-seeds", "0"], "0; expected at least 1"),
        (["--sparsity", "2"], "sparsity 2.0"),
        (["--noise-scale", "nan"], "noise scale nan"),
        (["--optimizers", "sgd"], "unknown optimizer 'sgd'"),
        (["--shared-learning-rate", "-1"], "--shared-learning-rate -1.0: expected"),
        (["--log-jsonl", "/proc/none/a.jsonl"], "--log-jsonl /proc/none/a.jsonl"),
        (["--output", "/proc/none"], "/proc/none"),
    ],
    ids=" ".join,
)
def test_bad_input_of_the_suite(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "suite"
    status, _, err = chimera(capsys, "stress-suite", *SMALL, "--output", folder, *words)
    assert status == 2 and said in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")
    assert not folder.exists()


def test_a_folder_of_other_settings_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["stress-suite", *SMALL, "--output", tmp_path]
    assert chimera(capsys, *words)[0] == 0
    status, _, err = chimera(capsys, *words, "--steps", 4)
    assert status == 2 and "steps 3, now 4" in err
