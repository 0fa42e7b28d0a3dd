"""``chimera images analyze``: what each question prints and records, and one line for wrong input."""

from __future__ import annotations

import json

import pytest

from chimera_lib import cli, recorded
from chimera_lib.images import campaign, commands
from chimera_lib.images.analysis import products
from chimera_lib.images.search.protocol import Budget

SMALL = ["--model", "resnet20"]


@pytest.fixture
def analyze(capsys):
    """Runs ``chimera images analyze ...``; gives exit status, output and error output."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["images", "analyze", *map(str, words)])
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def few(monkeypatch, pictures):
    """The test pictures stand for CIFAR-10's."""
    monkeypatch.setattr(commands.analysis, "start_images", lambda model, count: pictures[:count])


@pytest.fixture(scope="module")
def folder(small_model, oracle, pictures, tmp_path_factory):
    """A folder of chimeras, searched on OpenBLAS and BLIS."""
    output = tmp_path_factory.mktemp("made") / "any"
    budget = Budget(evaluations=3000, oracle_calls=200)
    campaign.run(
        small_model, pictures, range(3), oracle, name="lattice", budget=budget, seed=0, output=output, progress=False
    )
    return output


def metrics_of(record) -> dict[str, dict[str, object]]:
    content = recorded.read(record)
    assert "openblas" in content["backends"]
    return content["metrics"]


def test_prevalence_counts_and_records(analyze, few, tmp_path):
    record = tmp_path / "r.json"
    words = ["--count", 8, "--backends", "openblas,blis", "--output", tmp_path / "p", "--record", record]
    status, said, _ = analyze("prevalence", *SMALL, *words)
    assert status == 0 and said.startswith("0 conflicts on 8 images; rate between 0 and 0.37")
    metrics = metrics_of(record)
    assert metrics["rate"] == {"value": 0.0, "n": 8, "ci": [0.0, pytest.approx(1 - 0.025 ** (1 / 8))]}
    assert metrics["backends"]["value"] == 2


def test_pockets_measures_the_chimeras_of_a_folder(analyze, folder, tmp_path):
    record = tmp_path / "r.json"
    status, said, _ = analyze("pockets", folder, *SMALL, "--count", 2, "--output", tmp_path / "p", "--record", record)
    assert status == 0 and [line.split()[0] for line in said.splitlines()[1:3]] == ["one", "random"]
    metrics = metrics_of(record)
    assert metrics["gradient_median_ulp"]["n"] == 2
    assert metrics["one_value_median_ulp"]["value"] >= metrics["gradient_median_ulp"]["value"]


def test_criteria_compares_three_groups(analyze, few, tmp_path):
    record = tmp_path / "r.json"
    words = ["--starts", 3, "--output", tmp_path / "c", "--record", record]
    status, said, _ = analyze("criteria", *SMALL, *words)
    assert status == 0 and "natural images" in said
    assert metrics_of(record)["natural_gap_auroc"]["value"] == 1.0


def test_layers_traces_and_multiplies(analyze, few, tmp_path, monkeypatch):
    growth = products.growth
    monkeypatch.setattr(
        products, "growth", lambda *a, **k: growth(*a, **{**k, "terms": (27, 64, 144, 288), "draws": 2})
    )
    record, output = tmp_path / "r.json", tmp_path / "rows.json"
    words = ["--count", 2, "--backends", "openblas,blis", "--output", output, "--record", record]
    status, said, _ = analyze("layers", *SMALL, *words)
    assert status == 0 and said.startswith("openblas against blis, 2 images")
    assert json.loads(output.read_bytes())["blis"][0]["K"] == 27
    metrics = metrics_of(record)
    assert metrics["blis_first_layer"]["value"].endswith("K = 27)")
    assert {"random_openblas_blis_slope", "activations_openblas_blis_slope", "blis_growth"} <= set(metrics)


def test_transfer_writes_its_table_and_heat_map(analyze, folder, tmp_path):
    record, output = tmp_path / "r.json", tmp_path / "t"
    pairs = ["--pairs", "openblas,blis", "--pairs", "mkl,onnxruntime", "--pairs", "torch,torch:nomkldnn"]  # one library
    status, said, _ = analyze("transfer", folder, *pairs, *SMALL, "--output", output, "--record", record)
    assert status == 0 and "no: openblas, blis" in said
    assert [row["held out"] for row in json.loads((output / "transfer.json").read_bytes())][1] == "yes"
    assert (output / "transfer.png").read_bytes().startswith(b"\x89PNG")
    assert metrics_of(record)["any_openblas_blis_rate"]["value"] == 1.0


WRONG = {
    "too many": (["prevalence", "--count", "13"], "--count 13: expected at most 12"),
    "too far": (["criteria", "--first", "11", "--starts", "2"], "expected at most 12 together"),
    "no folder": (["pockets", "TMP/none"], "no rows.jsonl in it"),
    "backend": (["layers", "--backends", "openblas,bliss"], "did you mean 'blis'"),
    "framework": (["layers", "--backends", "openblas,torch", "--count", "2"], "torch is a framework"),
    "no pairs": (["transfer", "TMP"], "--pairs"),
    "one backend": (["transfer", "TMP", "--pairs", "openblas"], "expected two different"),
    "no campaign": (["transfer", "TMP", "--pairs", "openblas,mkl"], "campaign.json"),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line(words, expected, analyze, few, tmp_path):
    status, _, error = analyze(*(word.replace("TMP", str(tmp_path)) for word in words), *SMALL)
    assert status == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not any(tmp_path.iterdir()), "nothing may be left behind"


def test_a_folder_without_chimeras_is_named(analyze, tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    status, _, error = analyze("pockets", tmp_path, *SMALL)
    assert status == 2 and "no chimeras in it" in error
