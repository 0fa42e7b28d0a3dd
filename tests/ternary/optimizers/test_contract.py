"""The contract of torch.optim, for Chimera 2.1 and the peers alike."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

from chimera_lib.errors import BadGradient, UnknownName
from chimera_lib.ternary.optimizers import LEARNING_RATES, OPTIMIZERS, build

NAMES = list(OPTIMIZERS)
OURS = [name for name in NAMES if name not in {"adamw", "sgd_momentum"}]
GATED = [name for name in NAMES if name.startswith("chimera")]


def model(seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, last: int = 6) -> list[float]:
    losses = []
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        loss = (net(torch.randn(16, 4, generator=generator)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name: str) -> None:
    net = model()
    losses = train(net, build(name, net.parameters(), 0.01), last=200)
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("carry", ["file", "memory", "pickle", "deepcopy"])
def test_state_round_trips_and_training_goes_on_the_same(name: str, carry: str) -> None:
    whole = model()
    straight = build(name, whole.parameters(), 0.01, weight_decay=0.01)
    train(whole, straight, 0, 10)
    half = model()
    before = build(name, half.parameters(), 0.01, weight_decay=0.01)
    train(half, before, 0, 4)
    if carry in {"pickle", "deepcopy"}:
        half, after = pickle.loads(pickle.dumps((half, before))) if carry == "pickle" else copy.deepcopy((half, before))  # noqa: S301
    else:
        saved = copy.deepcopy(before.state_dict())
        if carry == "file":
            file = io.BytesIO()
            torch.save(saved, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
        after = build(name, half.parameters(), 0.5)  # the saved options win
        after.load_state_dict(saved)
    train(half, after, 4, 10)
    assert torch.equal(weights(whole), weights(half))


@pytest.mark.parametrize("name", OURS)
def test_state_dict_is_deterministic_and_holds_tensors_and_plain_values(name: str) -> None:
    dictionaries = []
    for _ in range(2):
        net = model()
        optimizer = build(name, net.parameters(), 0.01)
        train(net, optimizer)
        dictionaries.append(optimizer.state_dict())
    one, other = dictionaries
    assert one["param_groups"] == other["param_groups"]
    assert list(one["state"]) == list(other["state"]) == [0, 1, 2, 3]
    for index in one["state"]:
        for key, value in one["state"][index].items():
            assert torch.equal(value, other["state"][index][key])


@pytest.mark.parametrize("name", OURS)
def test_loading_one_state_twice_gives_independent_optimizers(name: str) -> None:
    net = model()
    first = build(name, net.parameters(), 0.01)
    train(net, first)
    saved = copy.deepcopy(first.state_dict())
    twins = [copy.deepcopy(net) for _ in range(2)]
    for twin in twins:
        optimizer = build(name, twin.parameters(), 0.01)
        optimizer.load_state_dict(copy.deepcopy(saved))
        train(twin, optimizer, 6, 9)
    assert torch.equal(*(weights(twin) for twin in twins))


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
def test_hooks_and_closures(name: str) -> None:
    net = model()
    optimizer = build(name, net.parameters(), 0.01)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: calls.append("loading"))
    optimizer.register_load_state_dict_post_hook(lambda _: calls.append("loaded"))

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(1, 4)).square().sum()
        loss.backward()
        calls.append("closure")
        return loss

    first = optimizer.step(closure)
    assert isinstance(first, torch.Tensor) and first.requires_grad
    saved = optimizer.state_dict()
    assert saved["more"] == 1
    optimizer.load_state_dict(saved)
    assert calls == ["before", "closure", "after", "loading", "loaded"]
    assert optimizer.step() is None


def test_a_load_hook_may_replace_the_state_and_psi_is_still_not_cast() -> None:
    net = model().to(torch.bfloat16)
    optimizer = build("chimera21", net.parameters(), 0.01)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())

    def replace(_: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
        states = {key: {**kept, "psi": torch.full_like(kept["psi"], 1 / 3)} for key, kept in given["state"].items()}
        return {**given, "state": states}

    optimizer.register_load_state_dict_pre_hook(replace)
    optimizer.load_state_dict(saved)
    psi = optimizer.state[net[0].weight]["psi"]
    assert psi.dtype == torch.float32 and psi[0, 0] == torch.tensor(1 / 3)


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


@pytest.mark.parametrize("name", GATED)
def test_deepcopy_and_repr_keep_what_is_public(name: str) -> None:
    net = model()
    optimizer = build(name, net.parameters(), 0.01)
    train(net, optimizer)
    public = {key for key in vars(optimizer) if not key.startswith("_")}
    assert {key for key in vars(copy.deepcopy(optimizer)) if not key.startswith("_")} == public
    assert "lambda_gate: 0.1" in repr(optimizer)


def test_an_adamw_state_is_taken_with_psi_at_zero() -> None:
    net = model()
    adam = build("adamw", net.parameters(), 0.01)
    train(net, adam)
    ours = build("chimera21", net.parameters(), 0.01)
    saved = copy.deepcopy(adam.state_dict())
    saved["param_groups"] = [{"params": saved["param_groups"][0]["params"], "lr": 0.02}]
    ours.load_state_dict(saved)
    train(net, ours, 6, 7)
    state = ours.state[net[0].weight]
    assert state["step"].item() == 7 and ours.param_groups[0]["lambda_gate"] == 0.1
    assert state["psi"].abs().max().item() == pytest.approx(0.05)


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
