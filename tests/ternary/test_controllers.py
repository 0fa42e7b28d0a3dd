"""From bits to zeros, the published controller step by step, and the one that needs a single step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import nn

from chimera_lib.errors import NothingToControl
from chimera_lib.ternary.controllers import BangBang, one_shot, symmetric_bits, zero_ratio_for
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.layers import BitLinear
from chimera_lib.ternary.quantizers.statistics import by_layer, pooled

TARGET = zero_ratio_for(1.32)


def network(**options: object) -> nn.Sequential:
    """Two layers with torch's own initial weights, which are uniform."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(100, 300), nn.ReLU(), nn.Linear(300, 10))
    return convert(layers, warmup=0, **options)


def zeros(model: nn.Module) -> float:
    return pooled(by_layer(model).values()).zero_ratio


def test_the_papers_target() -> None:
    assert round(TARGET, 5) == 0.63038


@settings(deadline=None)
@given(st.floats(0.001, 1.584))
def test_sparse_branch_against_another_root_finder(bits: float) -> None:
    def excess(z: float) -> float:
        return stats.entropy([z, (1 - z) / 2, (1 - z) / 2], base=2) - bits

    ours = zero_ratio_for(bits)
    assert 1 / 3 <= ours < 1
    assert ours == pytest.approx(optimize.brentq(excess, 1 / 3, 1 - 1e-12, xtol=1e-14), abs=1e-9)
    assert symmetric_bits(ours) == pytest.approx(bits, abs=1e-12)


@given(st.floats(1.0, 1.584))
def test_dense_branch(bits: float) -> None:
    ours = zero_ratio_for(bits, branch="dense")
    assert 0 <= ours <= 1 / 3
    assert symmetric_bits(ours) == pytest.approx(bits, abs=1e-12)


def test_ends_of_the_branches() -> None:
    assert zero_ratio_for(math.log2(3)) == pytest.approx(1 / 3, abs=1e-7)
    assert zero_ratio_for(1.0, branch="dense") == pytest.approx(0, abs=1e-300)
    for bits in (math.log2(3) + 1e-9, 2.0, 0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"target_bits=.*the sparse branch has more than 0 .* to log2 3 = 1.5850"):
            zero_ratio_for(bits)
    with pytest.raises(ValueError, match=r"target_bits=0.9: the dense branch has 1 .*or branch='sparse'"):
        zero_ratio_for(0.9, branch="dense")
    with pytest.raises(ValueError, match="branch='left': expected 'sparse'"):
        zero_ratio_for(1.3, branch="left")


@pytest.mark.parametrize(("start", "updates"), [(0.7, 11), (0.0, 25)])
def test_bang_bang_takes_many_updates_and_stops_short(start: float, updates: int) -> None:
    model = network(alpha_target=start)
    controller = BangBang(TARGET)
    controls = []
    while not controls or controls[-1].update_delta != 0:
        controls.append(controller.update(model))
    assert len(controls) - 1 == updates
    assert zeros(model) == pytest.approx(0.625, abs=2e-3)
    alphas = [control.following for control in controls[:-1]]
    assert alphas == pytest.approx([start + 0.05 * (turn + 1) for turn in range(updates)], abs=1e-6)


@pytest.mark.parametrize("affects", ["alpha_target", "alpha_override"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_one_shot_hits_at_once_in_every_layer(affects: str, per_channel: bool) -> None:
    model = network(per_channel=per_channel)
    control = one_shot(model, 0.632, affects=affects)
    for counts in by_layer(model).values():
        assert abs(counts.zeros - 0.632 * counts.numel) <= 1
    assert control.error == pytest.approx(control.zero_ratio - 0.632)
    assert [getattr(layer.quantizer, affects) for layer in (model[0], model[2])] != [0.7, 0.7]
    assert one_shot(model, 0.632, affects=affects).update_delta == pytest.approx(0, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.floats(0.001, 0.999), st.integers(0, 99))
def test_one_shot_is_exact_for_any_size(size: int, ratio: float, seed: int) -> None:
    layer = BitLinear(size, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(1, size, generator=torch.Generator().manual_seed(seed)))
    one_shot(layer, ratio)
    assert by_layer(layer)[""].zeros == round(ratio * size)


def test_global_ratio_counts_every_weight_once() -> None:
    model = nn.Sequential(BitLinear(4, 100, alpha_override=0.0), BitLinear(100, 1, alpha_override=9.0))
    control = BangBang(0.5).update(model)
    assert control.zero_ratio == 0.2
    assert control.error == pytest.approx(-0.3)
    assert (control.used, control.target, control.control) == (4.5, 0.7, 0.7)


def test_steps_have_the_errors_opposite_sign_and_stop_within_the_tolerance() -> None:
    for alpha, delta in ((0.0, 0.05), (1.5, -0.05)):
        model = network(alpha_target=alpha)
        assert BangBang(0.5).update(model).update_delta == delta
    model = network(alpha_target=1.0)
    assert abs(zeros(model) - 0.5) < 0.02
    assert BangBang(0.5).update(model).update_delta == 0
    assert model[0].quantizer.alpha_target == 1.0


def test_alphas_are_kept_in_range() -> None:
    model = network(alpha_target=1.49)
    assert BangBang(0.99).update(model).following == 1.5
    model = network(alpha_target=0.02)
    one_shot(model, 0.5)
    model[0].quantizer.alpha_target = 0.02
    assert BangBang(0.01, affects="alpha_target").update(model).following == pytest.approx(0.0, abs=1e-6)


def test_override_starts_from_the_alpha_in_use_and_acts_in_the_next_forward() -> None:
    model = network(alpha_target=0.7)
    BangBang(TARGET, affects="alpha_override").update(model)
    layer = model[0].quantizer
    assert (layer.alpha_override, layer.alpha_target, layer.alpha_used) == (0.75, 0.7, 0.75)


@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_frequency(frequency: str) -> None:
    model = network()
    controller = BangBang(TARGET, frequency=frequency)
    other = {"epoch": "batch", "batch": "epoch"}[frequency]
    assert controller.after(other, model) is None
    assert model[0].quantizer.alpha_target == 0.7
    control = controller.after(frequency, model)
    assert control is not None and control.record()["alpha_next_mean"] == pytest.approx(0.75)
    with pytest.raises(ValueError, match="event='step': expected 'epoch' or 'batch'"):
        controller.after("step", model)


def test_control_resumes_with_the_model() -> None:
    model = network()
    controller = BangBang(TARGET)
    controller.update(model)
    other = network()
    other.load_state_dict(model.state_dict())
    assert controller.update(other) == controller.update(model)


def test_bad_input() -> None:
    for ratio in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"target_zero_ratio=.*expected a share between 0 and 1"):
            BangBang(ratio)
        with pytest.raises(ValueError, match=r"target_zero_ratio="):
            one_shot(network(), ratio)
    with pytest.raises(ValueError, match="affects='alpha': expected 'alpha_target'"):
        BangBang(0.5, affects="alpha")
    with pytest.raises(ValueError, match="affects='alpha': expected 'alpha_target'"):
        one_shot(network(), 0.5, affects="alpha")
    with pytest.raises(ValueError, match="frequency='step'"):
        BangBang(0.5, frequency="step")
    with pytest.raises(ValueError, match=r"step=-0.05: expected a finite number >= 0"):
        BangBang(0.5, step=-0.05)
    with pytest.raises(ValueError, match=r"low=1.0, high=0.5: expected low <= high"):
        BangBang(0.5, low=1.0, high=0.5)
    for model in (nn.Linear(2, 2), BitLinear(2, 2, mode="strict_bitnet")):
        with pytest.raises(NothingToControl, match=r"no layer with a threshold; convert\(model, mode='chimera'\)"):
            BangBang(0.5).update(model)
        with pytest.raises(NothingToControl):
            one_shot(model, 0.5)
