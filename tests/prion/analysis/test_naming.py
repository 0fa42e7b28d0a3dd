"""Names of run folders, the original project's and ours, taken apart."""

import doctest

import pytest

from chimera_lib.prion.analysis import naming
from chimera_lib.prion.analysis.naming import Name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pythia_410m_pythia-410m_run01_fp16", Name("410m", 1, "fp16")),
        ("pythia_410m_pythia-410m_run12_fp16_sgd", Name("410m", 12, "fp16", optimizer="sgd")),
        ("pythia_410m_pythia-410m_run01_fp16_eigen_prion", Name("410m", 1, "fp16", "eigen_prion")),
        ("pythia_410m_pythia-410m_fp16_random_text", Name("410m", None, "fp16", "random_text")),
        ("pythia_1.4b_pythia-1.4b_run03_4bit", Name("1.4b", 3, "4bit")),
        ("pythia_160m_pythia-160m", Name("160m")),
        ("neox-0.3m_run02_fp32_text_fixed_sgd_momentum", Name("neox-0.3m", 2, "fp32", "text_fixed", "sgd_momentum")),
        ("neox-1m_run02_fp32_lora", Name("neox-1m", 2, "fp32", tuning="lora")),
        ("smollm2-135m_run01_bf16_eigen_prion_lora_sgd", Name("smollm2-135m", 1, "bf16", "eigen_prion", "sgd", "lora")),
        ("my_own_model_run01_fp32", Name("my_own_model", 1, "fp32")),
    ],
)
def test_names_of_runs(name: str, expected: Name) -> None:
    assert naming.parse(name) == expected
    assert naming.parse(name).series.run is None


def test_a_model_may_be_called_by_its_hub_name() -> None:
    assert [naming.short(name) for name in ("pythia-70m", "EleutherAI/pythia-1.4b", "70m", "neox-1m", "out/mine/")] == [
        "70m", "1.4b", "70m", "neox-1m", "mine",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "size"),
    [("70m", 70e6), ("1b", 1e9), ("2.8b", 2.8e9), ("neox-0.3m", 3e5), ("smollm2-135m", 135e6), ("mine", None)],
)
def test_sizes_are_read_off_names(model: str, size: float | None) -> None:
    assert naming.parameters(model) == size


def test_examples() -> None:
    failed, tried = doctest.testmod(naming)
    assert failed == 0 and tried > 0
