"""Controllers on weights that stand still and on networks that train."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from chimera_lib.ternary.controllers import zero_ratio_for
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.experiments import cifar_batches, control
from chimera_lib.ternary.experiments.control import Plan, Trace

TARGET = zero_ratio_for(1.32)


@pytest.mark.parametrize(("start", "updates"), [(0.0, 25), (0.7, 11), (1.25, 0)])
def test_settling_takes_as_many_steps_as_the_way_is_long(start: float, updates: int) -> None:
    torch.manual_seed(0)
    model = convert(nn.Linear(512, 512))
    ratios = control.settle(model, TARGET, start)
    assert len(ratios) - 1 == updates and abs(ratios[-1] - TARGET) <= 0.02
    assert ratios == sorted(ratios)


def test_settling_that_cannot_ends() -> None:
    layer = convert(nn.Linear(64, 64))
    with torch.no_grad():
        layer.weight.fill_(1.0)  # all zero or none: the controller goes up and down for ever
    assert len(control.settle(layer, TARGET, 0.7)) == control.MOST_UPDATES


PLANS = {
    Plan("none"): (0.38, 0.46),
    Plan("one_shot", "once"): (0.60, 0.66),
    Plan("one_shot"): (0.628, 0.633),
    Plan("bang_bang", "epoch"): (0.44, 0.60),
}


@pytest.mark.parametrize(("plan", "between"), PLANS.items(), ids=lambda one: getattr(one, "name", ""))
def test_training_under_control(plan: Plan, between: tuple[float, float]) -> None:
    splits = cifar_batches.synthetic(64, 8)
    trace = control.train(plan, splits, TARGET, batches=6, epoch=2, batch_size=4)
    assert len(trace.zero_ratio) == len(trace.alpha) == len(trace.loss) == 6
    assert np.array(trace.layers).shape == (6, 22)
    assert between[0] < trace.zero_ratio[-1] < between[1]
    if plan.controller == "bang_bang":
        assert trace.alpha == pytest.approx([0.7, 0.7, 0.75, 0.75, 0.8, 0.8])
    if plan.name == "one-shot, per batch":
        assert trace.zero_ratio[0] < 0.5, "it acts after the first batch"
        assert trace.spread() < 0.02
    again = control.train(plan, splits, TARGET, batches=6, epoch=2, batch_size=4)
    assert again == trace


def test_alpha_target_waits_for_the_warm_up() -> None:
    plan = Plan("bang_bang", affects="alpha_target", warmup=50)
    trace = control.train(plan, cifar_batches.synthetic(64, 8), TARGET, batches=4, epoch=2, batch_size=4)
    assert trace.alpha[0] == 0 and trace.alpha[-1] < 0.1


def test_what_a_trace_says() -> None:
    trace = Trace(Plan("none"), 0, [0.4, 0.5, 0.62, 0.61], [[0.1, 0.9]] * 3 + [[0.5, 0.7]], [0.7] * 4, [1.0] * 4)
    assert trace.settled(0.63) == 3 and trace.settled(0.9) is None
    assert trace.errors(0.6, 2) == pytest.approx([0.02, 0.01])
    assert trace.spread() == pytest.approx(0.2)


def test_rows_sum_up_the_seeds_of_a_plan() -> None:
    near = Trace(Plan("none"), 0, [0.4, 0.62], [[0.6, 0.7]] * 2, [0.7, 0.9], [1.0] * 2)
    far = Trace(Plan("none"), 1, [0.4, 0.5], [[0.4, 0.8]] * 2, [0.7, 0.7], [1.0] * 2)
    other = Trace(Plan("one_shot"), 0, [0.63, 0.63], [[0.63, 0.63]] * 2, [1.1, 1.1], [1.0] * 2)
    first, second = control.rows([near, far, other], 0.63, 1)
    assert first["first within 0.02"] == "2, never" and first["largest |error|"] == pytest.approx(0.13)
    assert first["spread"] == pytest.approx(0.25) and first["mean alpha"] == pytest.approx(0.8)
    assert second["controller"] == "one-shot, per batch" and second["largest |error|"] == pytest.approx(0)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="controller='pid': expected one of none, bang_bang, one_shot"):
        Plan("pid")
    with pytest.raises(ValueError, match="frequency='hour'"):
        Plan("one_shot", "hour")
