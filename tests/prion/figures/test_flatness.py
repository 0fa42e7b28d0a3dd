"""How flat catalysts are: one a seed, means, and names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from chimera_lib.prion.figures import flatness
from tests.prion.outcomes import outcome

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Outcome


def made(model: str, seed: int, rho: float, **more: float) -> Outcome:
    one = outcome(model=model, treatment="eigen_prion", seed=seed, **more)
    return replace(one, facts={"rho": rho, "rho_fresh": 2 * rho, "curvature": 3 * rho})


def test_a_catalyst_counts_once_however_often_it_was_shown() -> None:
    shown = [made("neox-1m", 1, 0.02), made("neox-1m", 1, 0.02, learning_rate=0.01), made("neox-1m", 2, 0.04)]
    other = outcome(model="neox-1m", treatment="text_fixed", seed=1)
    (row,) = flatness.rows([*shown, other])
    assert row["catalysts"] == 2
    assert row["rho"] == pytest.approx(0.03) and row["rho, other passages"] == pytest.approx(0.06)
    assert row["largest rho"] == 0.04
    found = flatness.metrics([*shown, other])
    assert found["catalyst_rho"]["value"] == pytest.approx(0.03) and found["catalyst_rho"]["n"] == 2
    low, high = found["catalyst_curvature"]["ci"]
    assert low < 0.09 < high


def test_models_lead_the_names_where_there_are_several() -> None:
    found = flatness.metrics([made("neox-0.3m", 1, 0.02), made("neox-1m", 1, 0.04)])
    assert found["neox_0_3m_catalyst_rho"]["value"] == 0.02
    assert found["neox_1m_catalyst_rho_fresh"] == {"value": 0.08, "n": 1}
