"""The contract of torch.optim on schedules, groups, gradients and parameters, for Chimera 2.1 and the peers alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

from chimera_lib.errors import BadGradient, UnknownName
from chimera_lib.ternary.optimizers import LEARNING_RATES, OPTIMIZERS, build
from tests.ternary.optimizers.training import GATED, OURS, model, train, weights

SCHEDULES: dict[str, Any] = {
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, max_lr=0.1, total_steps=20),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, T_0=3),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.001, 0.1, cycle_momentum=True),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda step: 1 / (1 + step)),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.ConstantLR(o, 0.1, 2), schedulers.CosineAnnealingLR(o, 10)], milestones=[2]
    ),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedulers(name: str, schedule: str) -> None:
    net = model()
    optimizer = build(name, net.parameters(), 0.01)
    scheduler = SCHEDULES[schedule](optimizer)
    seen = set()
    for step in range(6):
        train(net, optimizer, step, step + 1)
        scheduler.step()
        group = optimizer.param_groups[0]
        seen.add((round(group["lr"], 9), *group["betas"][:1]))
    assert len(seen) >= 3 and bool(torch.isfinite(weights(net)).all())


def test_one_cycle_moves_beta1_and_the_step_obeys() -> None:
    nets = [model(), model()]
    ours = build("chimera21", nets[0].parameters(), 0.01, lambda_gate=0.0)
    peer = build("adamw", nets[1].parameters(), 0.01)
    for net, optimizer in zip(nets, (ours, peer), strict=True):
        scheduler = schedulers.OneCycleLR(optimizer, max_lr=0.1, total_steps=12)
        for step in range(10):
            train(net, optimizer, step, step + 1)
            scheduler.step()
    assert (weights(nets[0]) - weights(nets[1])).abs().max() <= 1e-7


@pytest.mark.parametrize("name", OURS)
def test_groups_have_their_own_options_and_can_be_added(name: str) -> None:
    net = model()
    last = list(net[2].parameters())
    optimizer = build(name, [{"params": net[0].weight}, {"params": [net[0].bias], "lr": 0.0}], 0.01)
    before = weights(net).clone()
    train(net, optimizer, 0, 1)
    moved = weights(net) != before
    assert moved[:32].all() and not moved[32:].any()  # the bias has lr 0, the rest is in no group
    optimizer.add_param_group({"params": last, "lr": 0.02, "weight_decay": 0.1})
    train(net, optimizer, 2, 4)
    assert (weights(net) != before)[40:].all()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.0, 0.02]
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": last})


@pytest.mark.parametrize("name", OURS)
def test_missing_and_zero_gradients(name: str) -> None:
    net = model()
    optimizer = build(name, net.parameters(), 0.01)
    for p in net[0].parameters():
        p.grad = torch.zeros_like(p)
    before = weights(net).clone()
    optimizer.step()
    assert torch.equal(weights(net), before)  # zero gradients and no momentum: no step
    assert net[0].weight in optimizer.state and net[2].weight not in optimizer.state  # None is not zero
    train(net, optimizer)
    frozen = net[2].weight.detach().clone()
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())
    net[2].weight.grad = None
    optimizer.step()  # steps now differ between parameters
    assert torch.equal(net[2].weight, frozen)
    train(net, optimizer)
    assert bool(torch.isfinite(weights(net)).all())


@pytest.mark.parametrize("name", GATED)
def test_a_pattern_of_missing_gradients_gives_what_going_one_by_one_does(name: str) -> None:
    nets = [model(), model()]
    for net, foreach in zip(nets, (None, False), strict=True):
        optimizer = build(name, net.parameters(), 0.01, foreach=foreach)
        for step in range(12):
            generator = torch.Generator().manual_seed(step)
            for place, p in enumerate(net.parameters()):
                p.grad = torch.randn(p.shape, generator=generator) if (step + place) % 3 else None
            optimizer.step()
    assert (weights(nets[0]) - weights(nets[1])).abs().max() <= 1e-7


@pytest.mark.parametrize("name", OURS)
def test_maximize_goes_the_other_way(name: str) -> None:
    results = []
    for maximize in (False, True):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = build(name, [weight], 0.1, maximize=maximize)
        for step in range(5):
            slope = torch.tensor([1.0, -1.0, 0.5]) * (1 + step)
            weight.grad = -slope if maximize else slope
            optimizer.step()
            assert torch.equal(weight.grad, -slope if maximize else slope)  # gradients are not written to
        results.append(weight.detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("name", OURS)
def test_a_tensor_learning_rate_is_a_number(name: str) -> None:
    results = []
    for lr in (0.01, torch.tensor(0.01, dtype=torch.float64), torch.tensor([0.01], dtype=torch.float64)):
        net = model()
        train(net, build(name, net.parameters(), lr))  # type: ignore[arg-type]
        results.append(weights(net))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", OURS)
def test_named_parameters_and_other_memory_layouts(name: str) -> None:
    def conv(layout: torch.memory_format) -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Conv2d(3, 4, 3).to(memory_format=layout)  # type: ignore[call-overload]

    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = conv(layout)
        optimizer = build(name, net.named_parameters(), 0.01)
        for step in range(4):
            optimizer.zero_grad()
            net(torch.ones(1, 3, 5, 5) * (step + 1)).square().sum().backward()
            optimizer.step()
        assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
        results.append(weights(net))
    assert (results[0] - results[1]).abs().max() < 1e-5


@pytest.mark.parametrize("name", OURS)
def test_bad_parameters_are_refused_as_torch_does(name: str) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        build(name, [], 0.1)
    with pytest.raises(TypeError, match="iterable"):
        build(name, torch.ones(3), 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="non-leaf"):
        build(name, [torch.ones(3, requires_grad=True) * 2], 0.1)
    with pytest.raises(TypeError, match="ordered collections"):
        build(name, [{"params": {torch.nn.Parameter(torch.ones(1))}}], 0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        two = build(name, [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)], 0.1)
        build(name, [torch.nn.Parameter(torch.ones(1))], 0.1).load_state_dict(two.state_dict())
    with pytest.raises(ValueError, match="lr=-1"):
        build(name, [torch.nn.Parameter(torch.ones(1))], -1)
    sparse = torch.nn.Embedding(4, 2, sparse=True)
    sparse(torch.tensor([1])).sum().backward()
    with pytest.raises(BadGradient, match="sparse"):
        build(name, sparse.parameters(), 0.1).step()


def test_the_registry_gives_all_the_same_learning_rates() -> None:
    assert {entry.learning_rates for entry in OPTIMIZERS.values()} == {LEARNING_RATES}
    with pytest.raises(UnknownName, match="did you mean 'lion'"):
        build("lionn", [torch.nn.Parameter(torch.ones(1))], 0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_is_the_eager_one() -> None:
    results = []
    for captured in (False, True):
        weight = torch.nn.Parameter(torch.arange(5.0, device="cuda"))
        optimizer = build("chimera21_neutral", [weight], 0.1, capturable=captured)
        weight.grad = torch.tensor([1.0, -1.0, 2.0, 0.5, 0.0], device="cuda")
        if captured:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                optimizer.step()  # makes the state
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            for _ in range(4):
                graph.replay()
        else:
            for _ in range(5):
                optimizer.step()
        results.append((weight.detach().cpu(), optimizer.state[weight]["step"].item()))
    assert (results[0][0] - results[1][0]).abs().max() < 1e-6
    assert results[0][1] == results[1][1] == 5
