"""Transfer: which pairs are held out, and what the table counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from chimera_lib import stats
from chimera_lib.errors import ChimeraError
from chimera_lib.images import campaign
from chimera_lib.images.analysis import figures, transfer
from chimera_lib.images.backends import equivalence
from chimera_lib.images.search.protocol import Budget
from chimera_lib.plotting import png

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from chimera_lib.images.network import Network
    from chimera_lib.images.oracle import Oracle


@pytest.fixture(scope="module")
def folder(
    small_model: nn.Module, oracle: Oracle, pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("searches") / "any"
    budget = Budget(evaluations=3000, oracle_calls=200)
    campaign.run(
        small_model, pictures, range(4), oracle, name="lattice", budget=budget, seed=0, output=output, progress=False
    )
    return output


def test_the_matrix_knows_what_is_held_out_and_counts_conflicts(small_network: Network, folder: Path) -> None:
    (searched,) = transfer.read([folder])
    assert searched.label == "any" and searched.backends == ("openblas", "blis") and len(searched.images) >= 3
    pairs = [("openblas", "blis"), ("openblas:Prescott", "mkl"), ("onnxruntime", "blis"), ("mkl", "torch")]
    cells = transfer.matrix(small_network, [searched], pairs)
    assert [cell.shares for cell in cells] == [("openblas", "blis"), (), ("blis",), ("torch",)]
    assert [cell.held_out for cell in cells] == [False, True, False, False]
    assert cells[0].rate == 1.0, "what was searched on this pair is a chimera on it"
    assert cells[0].interval == stats.exact(len(searched.images), len(searched.images))
    held = transfer.held_out(cells, "any")
    assert held == dict(zip(searched.starts.tolist(), cells[1].conflict.astype(float).tolist(), strict=True))
    metrics = transfer.metrics(cells)
    assert metrics["any_openblas_blis_rate"]["value"] == 1.0
    assert metrics["any_openblas_Prescott_mkl_rate"]["n"] == len(searched.images)
    assert "any" in transfer.as_text(cells) and "fewer than 100" in transfer.as_text(cells)
    assert png(figures.transfer(cells)).startswith(b"\x89PNG")


def test_one_bit_class_under_two_names_is_not_held_out(small_network: Network) -> None:
    of = transfer.classes(small_network, ["openblas", "openblas:Haswell", "openblas:SkylakeX", "openblas"])
    assert len(of) == 3 and all(number > 0 for number in of.values())
    by_name = transfer.classes(small_network, ["openblas", "mkl"])
    assert by_name["openblas"] != by_name["mkl"]
    assert of["openblas"] in (of["openblas:Haswell"], of["openblas:SkylakeX"]), "its own choice is one of its sets"


def test_a_backend_that_does_not_run_is_in_a_class_of_its_own(
    small_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        equivalence.Row("a", "x", "gemm", bit_class=1),
        equivalence.Row("b", "x", "gemm", reason="gone"),
        equivalence.Row("c", "x", "gemm", reason="gone"),
    ]
    monkeypatch.setattr(equivalence, "survey", lambda network, names: rows)
    assert transfer.classes(small_network, ["a", "b", "c"]) == {"a": 1, "b": -2, "c": -3}


def cell(label: str, share: float, n: int, held: bool = True, pair: tuple[str, str] = ("a", "b")) -> transfer.Cell:
    conflict = np.random.default_rng(n).permutation(n) < round(share * n)
    return transfer.Cell(label, pair, conflict, () if held else ("a",), np.arange(n))


def test_the_gain_of_one_search_over_another_has_an_interval() -> None:
    searched = ("a", "c")  # held out for one folder only: both are compared without it
    cells = [cell("any", 0.3, 200), cell("robust", 0.9, 200)]
    cells += [cell("any", 1.0, 200, pair=searched), cell("robust", 1.0, 200, held=False, pair=searched)]
    gained = transfer.metrics(cells)["robust_over_any"]
    assert gained["value"] == pytest.approx(3.0)
    assert 2 < gained["ci"][0] < 3 < gained["ci"][1] < 4.5
    with pytest.raises(ChimeraError, match="no ratio"):
        transfer.gain({1: 1.0, 2: 1.0}, {1: 0.0, 2: 0.0})


def test_the_gain_is_paired_by_start() -> None:
    share = {start: float(start % 3 == 0) for start in range(60)}
    assert transfer.gain(share, share)["ci"] == (1.0, 1.0), "the same starts are drawn for both"
    shifted = {start + 60: value for start, value in share.items()}
    low, high = transfer.gain(share, shifted)["ci"]
    assert low < 0.8 and high > 1.2, "folders of other starts have nothing to pair"


def test_folders_without_chimeras_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ChimeraError, match=r"campaign\.json"):
        transfer.read([tmp_path])
    (tmp_path / "campaign.json").write_text('{"backends": {"a": "1", "b": "2"}}')
    with pytest.raises(ChimeraError, match="no chimeras"):
        transfer.read([tmp_path])
    with pytest.raises(ChimeraError, match="two folders of one name"):
        transfer.read([folder, folder])
