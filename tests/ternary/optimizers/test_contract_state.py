"""The contract of torch.optim about state, hooks and copies, for Chimera 2.1 and the peers alike."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from chimera_lib.ternary.optimizers import build
from tests.ternary.optimizers.training import GATED, NAMES, OURS, model, train, weights


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


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("pattern", ["freezing", "halves"])
def test_state_does_not_grow_where_other_parameters_get_gradients_at_each_step(name: str, pattern: str) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(500, generator=generator)) for _ in range(20)]
    alone = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    optimizer, single = build(name, parameters, 0.01), build(name, alone, 0.01, foreach=False)
    for step in range(30):
        for place, (one, other) in enumerate(zip(parameters, alone, strict=True)):
            frozen = place < step if pattern == "freezing" else bool(torch.rand((), generator=generator) < 0.5)
            grad = None if frozen and step else torch.randn(500, generator=generator)
            one.grad, other.grad = grad, None if grad is None else grad.clone()
        optimizer.step()
        single.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    assert len(file.getvalue()) < 1.2 * optimizer.state_bytes()["total"] + 40_000  # names and offsets of the entries
    for one, other in zip(parameters, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_a_bucket_is_made_anew_for_parameters_that_come_twice_running() -> None:
    parameters = [torch.nn.Parameter(torch.ones(4)) for _ in range(4)]
    optimizer = build("chimera21", parameters, 0.01)
    for count in (4, 3, 3, 3):
        for place, one in enumerate(parameters):
            one.grad = torch.ones(4) if place < count else None
        optimizer.step()
    storages = [optimizer.state[one]["psi"].untyped_storage() for one in parameters]
    assert len({storage.data_ptr() for storage in storages}) == 2  # three together, and the one left out by itself
    assert [storage.nbytes() for storage in storages] == [48, 48, 48, 16]
