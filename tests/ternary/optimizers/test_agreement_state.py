"""int8 ψ: what the published scheme does, and that ours neither stalls nor breaks on resuming."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

from chimera_lib.ternary.optimizers import Chimera21, agreement_state


def constant(steps: int, rho: float, rounding: str, coordinates: int = 1, seed: int = 0) -> torch.Tensor:
    """Codes of ψ, int8, after so many steps of full agreement."""
    weight = torch.nn.Parameter(torch.zeros(coordinates))
    optimizer = Chimera21([weight], lr=0.0, rho_psi=rho, psi_storage="int8", psi_rounding=rounding, seed=seed)
    weight.grad = torch.ones(coordinates)
    for _ in range(steps):
        optimizer.step()
    return optimizer.state[weight]["psi"]


def test_published_rounding_stalls_at_118_of_127() -> None:
    assert constant(400, 0.95, "as_published").tolist() == [118]


@pytest.mark.parametrize("rho", [0.997, 0.999])
def test_published_rounding_never_leaves_zero(rho: float) -> None:
    assert constant(400, rho, "as_published").tolist() == [0]


@pytest.mark.parametrize(("rho", "steps"), [(0.95, 300), (0.997, 1500), (0.9999, 1500)])
def test_stochastic_rounding_follows_the_average(rho: float, steps: int) -> None:
    codes = constant(steps, rho, "stochastic", coordinates=400).double()
    assert codes.mean().item() / 127 == pytest.approx(1 - rho**steps, abs=0.01)


def test_rounding_is_right_on_average() -> None:
    psi = torch.full((200_000,), 0.3 / 127)
    places = torch.arange(200_000, dtype=torch.int32)
    codes = agreement_state.encode(psi, agreement_state.uniform(places, agreement_state.stream(0, torch.tensor(5.0))))
    assert set(codes.unique().tolist()) == {0.0, 1.0}
    assert codes.mean().item() == pytest.approx(0.3, abs=0.005)  # five standard errors


def test_the_noise_is_uniform_and_independent_between_steps_and_seeds() -> None:
    def draw(seed: int, step: int) -> torch.Tensor:
        key = agreement_state.stream(seed, torch.tensor(float(step)))
        return agreement_state.uniform(torch.arange(100_000, dtype=torch.int32), key)

    first = draw(0, 1)
    counts = torch.histc(first, 50, 0, 1)
    assert ((counts - 2000).square() / 2000).sum() < 95  # chi-square, 49 degrees of freedom, p = 1e-4
    assert first.min() > 0 and first.max() < 1
    for other in (draw(0, 2), draw(1, 1), first.roll(1)):
        assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1]) < 0.016  # five standard errors


def test_every_code_survives_rounding_when_psi_does_not_move() -> None:
    codes = torch.arange(-127, 128, dtype=torch.int8)
    psi = agreement_state.decode(codes, torch.float32)
    for seed in range(50):
        noise = agreement_state.uniform(torch.arange(255, dtype=torch.int32), agreement_state.stream(seed, 1.0))
        moved = (agreement_state.encode(psi, noise) != codes).sum()
        assert moved <= 1  # 127·(q/127) can miss q by a bit of float32, and then rarely rounds away
    assert torch.equal(agreement_state.encode(psi, None).to(torch.int8), codes)


def test_optimizers_cast_breaks_unshielded_codes_and_ours_are_shielded() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = Chimera21([weight], psi_storage="int8")
    weight.grad = torch.ones(3)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["psi"].fill_(99)
    torch.optim.Optimizer.load_state_dict(optimizer, copy.deepcopy(saved))  # what the published optimizer does
    broken = optimizer.state[weight]["psi"]
    assert broken.dtype == torch.float32 and broken.tolist() == [99.0] * 3  # ψ = 99, where it cannot pass 1
    optimizer.load_state_dict(saved)
    assert optimizer.state[weight]["psi"].dtype == torch.int8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "options",
    [{}, {"psi_storage": "int8"}, {"psi_storage": "int8", "psi_rounding": "as_published"}, {"neutral": "floor"}],
    ids=str,
)
@pytest.mark.parametrize("foreach", [None, False])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    options: dict[str, Any], dtype: torch.dtype, foreach: bool | None
) -> None:
    def start() -> tuple[list[torch.nn.Parameter], Chimera21]:
        generator = torch.Generator().manual_seed(1)
        made = [torch.nn.Parameter(torch.randn(s, generator=generator).to(dtype)) for s in ((7, 5), (70_000,), (3,))]
        return made, Chimera21(made, lr=1e-2, rho_psi=0.99, foreach=foreach, **options)

    def steps(made: list[torch.nn.Parameter], optimizer: Chimera21, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            for one in made:
                one.grad = torch.randn(one.shape, generator=generator).to(dtype) + one.detach()
            optimizer.step()

    whole, straight = start()
    steps(whole, straight, 0, 12)
    half, before = start()
    steps(half, before, 0, 5)
    file = io.BytesIO()
    torch.save({"optimizer": before.state_dict(), "weights": [p.detach() for p in half]}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    resumed, after = start()
    with torch.no_grad():
        for one, value in zip(resumed, loaded["weights"], strict=True):
            one.copy_(value)
    after.load_state_dict(loaded["optimizer"])
    steps(resumed, after, 5, 12)
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one, other)
        for name, value in straight.state[one].items():
            assert value.dtype == after.state[other][name].dtype
            assert torch.equal(value, after.state[other][name]), name


def test_seed_and_parameter_decide_the_rounding() -> None:
    assert torch.equal(constant(50, 0.99, "stochastic", 50), constant(50, 0.99, "stochastic", 50))
    assert not torch.equal(constant(50, 0.99, "stochastic", 50), constant(50, 0.99, "stochastic", 50, seed=1))
    two = [torch.nn.Parameter(torch.zeros(50)) for _ in range(2)]
    optimizer = Chimera21(two, psi_storage="int8")
    for _ in range(3):
        for one in two:
            one.grad = torch.ones(50)
        optimizer.step()
    assert not torch.equal(*(optimizer.state[one]["psi"] for one in two))
