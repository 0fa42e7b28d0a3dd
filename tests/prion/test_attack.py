"""The attack loop: what it does to the weights, what it reports, and how it fails."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from chimera_lib.errors import ChimeraError, Diverged, UnknownName
from chimera_lib.prion import attack, ladder, models, optimizers
from chimera_lib.prion.batches import Batch


class Fixed:
    """One sequence, again and again."""

    def __init__(self, seed: int = 0) -> None:
        self._batch = Batch(torch.randint(0, 1024, (1, 32), generator=torch.Generator().manual_seed(seed)))

    def batch(self, step: int) -> Batch:
        assert step >= 0
        return self._batch


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in model.parameters()])


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_every_optimizer_learns_the_sequence_and_the_change_is_reported(name: str) -> None:
    model = ladder.new("neox-0.3m", 0)
    before = flat(model)
    done = attack.attack(model, Fixed(), optimizer=name, learning_rate=1e-3 if name != "sgd" else 0.3, steps=12)
    assert len(done.losses) == 12
    assert done.losses[-1] < done.losses[0] - 0.01
    change = (flat(model) - before).norm().item()
    assert done.weight_change == pytest.approx(change, rel=1e-4)
    assert done.relative_change == pytest.approx(change / before.norm().item(), rel=1e-4)


def test_plain_sgd_moves_the_weights_far_less_at_the_same_rate() -> None:
    norms = {}
    for name in ("adamw", "sgd"):
        model = ladder.new("neox-0.3m", 0)
        norms[name] = attack.attack(model, Fixed(), optimizer=name, learning_rate=1e-3, steps=10).weight_change
    assert norms["sgd"] < norms["adamw"] / 20


def test_a_sham_moves_nothing() -> None:
    model = ladder.new("neox-0.3m", 0)
    before = flat(model)
    assert attack.attack(model, Fixed(), learning_rate=0.0, steps=3).weight_change == 0
    assert torch.equal(flat(model), before)


def test_sgd_is_what_its_name_says() -> None:
    model = ladder.new("neox-0.3m", 0)
    peer = copy.deepcopy(model)
    attack.attack(model, Fixed(), optimizer="sgd", learning_rate=0.1, steps=2)
    for _ in range(2):
        ids = Fixed().batch(0).labels
        peer(ids, labels=ids).loss.backward()
        with torch.no_grad():
            for one in peer.parameters():
                one -= 0.1 * one.grad
                one.grad = None
    torch.testing.assert_close(flat(model), flat(peer), rtol=1e-4, atol=1e-6)


def test_the_trail_is_taken_where_it_was_asked_for() -> None:
    model = ladder.new("neox-0.3m", 0)
    done = attack.attack(model, Fixed(), steps=5, watch=lambda step, _, moved: (step, moved.norm()), watch_at=(0, 2, 5))
    assert list(done.trail) == [0, 2, 5]
    assert done.trail[0] == (0, 0.0)
    assert done.trail[2][1] < done.trail[5][1] == done.weight_change


def test_the_early_stop_follows_the_rank_on_the_catalyst(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = iter([4.0, 3.0, 1.9])
    monkeypatch.setattr(attack.metrics, "catalyst_rank", lambda *_: next(ranks))
    done = attack.attack(ladder.new("neox-0.3m", 0), Fixed(), steps=40, early_stop=True)
    assert len(done.losses) == 11  # stops after the second look, at step 10
    assert done.ranks == ((0, 3.0), (10, 1.9))


def test_a_loss_that_is_no_number_ends_the_run_with_its_step() -> None:
    model = ladder.new("neox-0.3m", 0)
    with pytest.raises(Diverged, match=r"at step \d+ of 50; use a smaller learning rate than 1e\+30"):
        attack.attack(model, Fixed(), optimizer="sgd", learning_rate=1e30, steps=50)


def test_wrong_arguments_are_named() -> None:
    model = ladder.new("neox-0.3m", 0)
    with pytest.raises(UnknownName, match="lion"):
        attack.attack(model, Fixed(), optimizer="lion")
    with pytest.raises(ChimeraError, match="learning rate nan"):
        attack.attack(model, Fixed(), learning_rate=float("nan"))
    with pytest.raises(ChimeraError, match="no parameter takes gradients"):
        attack.attack(model.requires_grad_(False), Fixed())


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_the_lean_attack_ends_where_the_plain_one_does(name: str) -> None:
    plain, lean = ladder.new("neox-0.3m", 0), ladder.new("neox-0.3m", 0)
    rate = 0.1 if name == "sgd" else 1e-3
    done = [
        attack.attack(model, Fixed(), optimizer=name, learning_rate=rate, steps=4, lean=one)
        for model, one in ((plain, False), (lean, True))
    ]
    assert done[0].losses == pytest.approx(done[1].losses, rel=1e-4)
    difference = (flat(plain) - flat(lean)).norm()
    assert difference < 2e-3 * done[0].weight_change


def test_adapters_count_by_the_weights_they_stand_for() -> None:
    loaded = models.load("neox-0.3m", tuning="lora")
    moved = attack.Displacement(loaded.model)
    assert moved.norm() == 0
    before = ladder.load("neox-0.3m")[0].state_dict()
    with torch.no_grad():
        for name, one in loaded.model.named_parameters():
            if "lora_B" in name:
                one.normal_(std=0.01, generator=torch.Generator().manual_seed(len(name)))
    distance = moved.norm()
    merged = loaded.model.merge_and_unload().state_dict()
    total = sum(float((merged[key] - before[key]).square().sum()) for key in before)
    assert distance == pytest.approx(math.sqrt(total), rel=1e-4)


def test_the_size_of_a_model_does_not_depend_on_how_it_is_tuned_or_stored() -> None:
    whole = flat(ladder.load("neox-0.3m")[0]).norm().item()
    for precision, tuning in (("fp32", "full"), ("fp32", "lora"), ("bf16", "lora"), ("8bit", "lora"), ("4bit", "lora")):
        loaded = models.load("neox-0.3m", precision=precision, tuning=tuning)
        assert attack.Displacement(loaded.model).size == pytest.approx(whole, rel=1e-3), (precision, tuning)
