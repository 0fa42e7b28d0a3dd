"""``chimera prion run`` and ``compare`` as they are typed, with wrong input too."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chimera_lib.cli import main
from chimera_lib.errors import Diverged
from chimera_lib.prion import experiment
from tests.prion import outcomes

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--model", "neox-0.3m", "--steps", "2"]


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["prion", *map(str, words)])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err  # type: ignore[return-value]


def test_runs_are_made_once_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", *SMALL, "--control-type", "text_fixed", "--num-runs", 2, "--output-dir", tmp_path]
    status, out, _ = typed(capsys, *words)
    assert status == 0
    assert "neox-0.3m_run02_fp32_text_fixed · rank reduction" in out
    seeds = [
        json.loads((tmp_path / f"neox-0.3m_run0{run}_fp32_text_fixed" / "config.json").read_text())["experiment"][
            "seed"
        ]
        for run in (1, 2)
    ]
    assert seeds == [43, 44]  # run r has the base seed plus r
    table = (tmp_path / "aggregate_summary_neox-0.3m_fp32_text_fixed.csv").read_text().splitlines()
    assert table[0].startswith("run,baseline_rank,post_attack_rank,rank_reduction_pct")
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2"]
    status, out, _ = typed(capsys, *words)
    assert status == 0
    assert out.count("there already") == 2


def test_a_run_that_diverges_is_marked_and_the_others_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", *SMALL, "--control-type", "text_fixed", "--num-runs", 2, "--output-dir", tmp_path]
    run = experiment.run

    def first_fails(setting: experiment.Setting, **options: object) -> experiment.Outcome:
        if setting.seed == 43:
            raise Diverged("the loss is nan at step 1 of 2")
        return run(setting, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "run", first_fails)
    status, _, error = typed(capsys, *words)
    assert status == 2
    assert "1 of 2 runs failed (run 1: the loss is nan" in error
    failed = json.loads((tmp_path / "neox-0.3m_run01_fp32_text_fixed" / "failed.json").read_text())
    assert failed["error"] == "Diverged"
    table = (tmp_path / "aggregate_summary_neox-0.3m_fp32_text_fixed.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["2"]
    monkeypatch.setattr(experiment, "run", run)
    status, _, _ = typed(capsys, *words)  # the failed one alone is tried again
    assert status == 0
    assert not (tmp_path / "neox-0.3m_run01_fp32_text_fixed" / "failed.json").exists()


def test_an_error_that_is_not_ours_fails_its_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", *SMALL, "--control-type", "text_fixed", "--num-runs", 2, "--output-dir", tmp_path]
    made = outcomes.outcome()

    def first_fails(setting: experiment.Setting, **_: object) -> experiment.Outcome:
        if setting.seed == 43:
            raise RuntimeError("mixed dtype\n(CPU)")
        return replace(made, setting=setting)

    monkeypatch.setattr(experiment, "run", first_fails)
    status, _, error = typed(capsys, *words)
    assert status == 2 and error.count("\n") == 1
    assert "1 of 2 runs failed (run 1: RuntimeError: mixed dtype (CPU)); the others are done" in error
    assert str(tmp_path) not in error
    failed = json.loads((tmp_path / "neox-0.3m_run01_fp32_text_fixed" / "failed.json").read_text())
    assert failed["error"] == "RuntimeError"
    assert (tmp_path / "neox-0.3m_run02_fp32_text_fixed" / "metrics.jsonl").is_file()


def test_a_broken_folder_is_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", *SMALL, "--control-type", "text_fixed", "--num-runs", 2, "--output-dir", tmp_path]
    done: list[int] = []

    def run(setting: experiment.Setting, **_: object) -> experiment.Outcome:
        done.append(setting.seed)
        return replace(outcomes.outcome(), setting=setting)

    monkeypatch.setattr(experiment, "run", run)
    assert typed(capsys, *words)[0] == 0
    for number, file in ((1, "config.json"), (2, "metrics.jsonl")):
        path = tmp_path / f"neox-0.3m_run0{number}_fp32_text_fixed" / file
        path.write_text(path.read_text()[:50])
    assert typed(capsys, *words)[0] == 0
    assert done == [43, 44, 43, 44]


def test_a_real_divergence_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["--optimizer", "sgd", "--lr", "1e30", "--steps", "6", "--control-type", "text_fixed"]
    status, _, error = typed(capsys, "run", "--model", "neox-0.3m", *wild, "--output-dir", tmp_path)
    assert status == 2
    assert "use a smaller" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "neox-2m"], "unknown model 'neox-2m' (did you mean 'neox-"),
        (["--model", "./nowhere"], "there is no folder ./nowhere"),
        (["--quantization", "3bit"], "unknown quantization '3bit'"),
        (["--quantization", "4bit", "--force-fft"], "--force-fft with --quantization 4bit: choose one"),
        (["--optimizer", "lion"], "unknown optimizer 'lion'"),
        (["--control-type", "noise"], "unknown control type 'noise'"),
        (["--arm", "fair"], "unknown arm 'fair'"),
        (["--mend", "tripple_shift"], "unknown fault 'tripple_shift'"),
        (["--num-runs", "0"], "0; expected at least 1"),
        (["--learning-rate", "nan"], "nan; expected at least 0"),
        (["--checkpoint", "best"], "unknown checkpoint 'best'"),
        (["--device", "tpu"], "tpu"),
    ],
)
def test_wrong_input_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = typed(
        capsys, "run", *SMALL[2:], "--control-type", "text_fixed", *words, "--output-dir", tmp_path
    )
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("*run01*"))


def test_pythia_without_a_hub_says_how_to_supply_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    status, _, error = typed(capsys, "run", "--model", "70m", "--output-dir", tmp_path)
    assert status == 2
    assert "CHIMERA_PYTHIA" in error
    assert not list(tmp_path.glob("*run01*"))


def test_compare_records_every_treatment_and_its_distance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.json"
    words = ["compare", *SMALL, "--seeds", 2, "--catalyst-steps", 1, "--output-dir", tmp_path, "--record", record]
    status, out, _ = typed(capsys, *words, "--treatment", "eigen_prion", "--treatment", "text_fixed")
    assert status == 0
    assert "text_fixed" in out
    metrics = json.loads(record.read_text())["metrics"]
    assert metrics["text_fixed_log_perplexity_change"]["n"] == 2
    mean = metrics["eigen_prion_log_perplexity_change"]["value"] - metrics["text_fixed_log_perplexity_change"]["value"]
    assert metrics["eigen_prion_less_text_fixed_log_perplexity_change"]["value"] == pytest.approx(mean)
    status, _, error = typed(capsys, "compare", *SMALL, "--treatment", "text_fixed", "--output-dir", tmp_path)
    assert status == 2
    assert "expected eigen_prion among them" in error
