"""The gate on known signals, against closed forms and against the optimizer's own tests."""

from __future__ import annotations

import math

import numpy as np
import pytest

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.experiments import gate_probe as probe
from chimera_lib.ternary.optimizers import gate


def test_psi_on_a_constant_gradient_is_one_less_what_is_left_of_zero() -> None:
    course = probe.drive("constant", steps=60)
    assert course.psi == pytest.approx(1 - 0.95 ** np.arange(1, 61), abs=1e-6)
    assert course.last_kappa == pytest.approx(np.exp(0.1 * course.last_psi))


def test_the_published_gate_reads_oscillation_as_agreement_and_the_previous_momentum_does_not() -> None:
    published = probe.drive("alternating", steps=60).psi
    assert published == pytest.approx(1 - 0.95 ** np.arange(1, 61), abs=1e-6)
    assert probe.drive("alternating", steps=60, agreement="previous").psi[-1] < -0.9


def test_psi_on_noise_is_what_theory_expects_at_every_step() -> None:
    course = probe.drive("noise", steps=100, coordinates=8000)
    assert np.abs(course.psi - probe.expected_psi(0.9, 0.95, 100)).max() < 0.01
    assert course.last_kappa.mean() == pytest.approx(gate.expected_kappa(0.1, 0.9), abs=2e-3)


@pytest.mark.parametrize("options", [{"agreement": "previous"}, {"neutral": "floor"}, {"neutral": "mean"}], ids=str)
def test_the_mended_gates_have_a_mean_of_one_on_noise(options: dict[str, str]) -> None:
    course = probe.drive("noise", steps=60, coordinates=8000, **options)
    assert course.last_kappa.mean() == pytest.approx(1.0, abs=1e-3) and course.last_kappa.std() > 0.005


def test_policies_are_the_four_numbers_of_the_source() -> None:
    assert probe.policies() == pytest.approx({"standard": 0.25, "freeze": 0.5, "decay": 0.1, "inertia": 0.75})


def test_the_cast_of_load_state_dict_takes_the_code_for_psi() -> None:
    before, published, ours = probe.cast_on_load(30)
    assert published == round(127 * before) == 99 and ours == before < 1


def test_the_two_equalities() -> None:
    assert probe.lambda_zero_difference(20) <= 1e-7
    assert probe.resume_difference("fp32", 20) == probe.resume_difference("int8", 20) == 0


def test_the_equalities_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = probe._train
    monkeypatch.setattr(probe, "_train", lambda problem, optimizer, first, last: kept(problem, optimizer, 0, last))
    assert probe.resume_difference("fp32", 20) > 1e-4  # the second half begins at step 0 again
    monkeypatch.undo()
    made = probe.Chimera21
    monkeypatch.setattr(probe, "Chimera21", lambda *words, **named: made(*words, **{**named, "lambda_gate": 0.1}))
    assert probe.lambda_zero_difference(20) > 1e-5


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(UnknownName, match="'nois'"):
        probe.drive("nois", steps=1)
    assert math.isclose(probe.expected_psi(0.9, 0.0, 1)[0], 1.0)
