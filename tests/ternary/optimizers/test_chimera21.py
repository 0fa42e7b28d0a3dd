"""Chimera 2.1 against torch's AdamW, against its formulas written out anew, and between its own paths."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch

from chimera_lib.errors import BadGradient
from chimera_lib.ternary.optimizers import Chimera21, compiled

SHAPES = [(8, 3, 3, 3), (8,), (5, 7), (300, 250), (1,), (), (0,)]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"agreement": "previous"},
    {"neutral": "floor"},
    {"neutral": "mean"},
    {"cross_gate": "noise_ratio"},
    {"psi_storage": "int8"},
    {"psi_storage": "int8", "psi_rounding": "as_published"},
    {"zero_gradient": "freeze"},
    {"zero_gradient": "decay", "maximize": True},
    {"zero_gradient": "inertia", "weight_decay": 0.1},
    {"lambda_gate": 5.0, "kappa": (0.9, 1.1)},
]


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def give(made: list[torch.nn.Parameter], step: int) -> None:
    """Gradients that depend on the step only, a fifth of them zero."""
    generator = torch.Generator().manual_seed(step)
    for one in made:
        slope = torch.randn(one.shape, generator=generator) + 0.3
        one.grad = (slope * (torch.rand(one.shape, generator=generator) > 0.2)).to(one.dtype)


def after(optimizer: torch.optim.Optimizer, made: list[torch.nn.Parameter], steps: int) -> torch.Tensor:
    for step in range(steps):
        give(made, step)
        optimizer.step()
    return torch.cat([one.detach().double().flatten() for one in made])


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"maximize": True, "betas": (0.5, 0.9)}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_gate_it_is_adamw(foreach: bool | None, options: dict[str, Any], dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    mine = after(Chimera21(ours, lambda_gate=0.0, foreach=foreach, **options), ours, 100)
    peer = after(torch.optim.AdamW(theirs, **{"weight_decay": 0.0, **options}), theirs, 100)
    assert (mine - peer).abs().max() <= 1e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_follows_adamw_within_its_precision(dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    mine = after(Chimera21(ours, lr=1e-2, lambda_gate=0.0, eps=1e-4), ours, 20)
    peer = after(torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.0, eps=1e-4), theirs, 20)
    near = (mine - peer).abs() < 8 * torch.finfo(dtype).eps * peer.abs().max()
    assert near.double().mean() > 0.99  # where v underflows to nothing, AdamW's own step is arbitrary


def plain(made: list[torch.nn.Parameter], steps: int, **options: Any) -> torch.Tensor:
    """The published formulas, element by element in float64, as the specification states them."""
    lr, (b1, b2), eps, rho, lam = 1e-2, (0.9, 0.999), 1e-8, 0.95, options.get("lambda_gate", 0.1)
    low, high = options.get("kappa", (0.5, 2.0))
    theta = [p.detach().double() for p in made]
    m, v, psi = ([torch.zeros_like(t) for t in theta] for _ in range(3))
    for t in range(1, steps + 1):
        give(made, t - 1)
        for i, p in enumerate(made):
            assert p.grad is not None
            g = p.grad.double()
            old = m[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g**2
            a = torch.sign(old if options.get("agreement") == "previous" else m[i]) * torch.sign(g)
            moved = rho * psi[i] + (1 - rho) * a
            policy = options.get("zero_gradient", "standard")
            still = {"standard": rho * psi[i], "freeze": psi[i], "decay": 0.95 * psi[i]}
            still["inertia"] = rho * psi[i] + (1 - rho) * torch.sign(m[i]) ** 2
            psi[i] = torch.where(g == 0, still[policy], moved)
            mh, root = m[i] / (1 - b1**t), torch.sqrt(v[i] / (1 - b2**t))
            kappa = torch.clip(torch.exp(lam * psi[i]), low, high)
            if options.get("cross_gate") == "noise_ratio":
                kappa = 1 + torch.sigmoid(4 * (2 - root / (mh.abs() + eps))) * (kappa - 1)
            if options.get("neutral") == "mean":
                kappa = kappa / kappa.mean()
            theta[i] = theta[i] - lr * kappa * mh / (root + eps)
    return torch.cat([t.flatten() for t in theta])


FORMULAS = [
    o for o in VARIANTS if not {"psi_storage", "maximize", "weight_decay"} & set(o) and o.get("neutral") != "floor"
]


@pytest.mark.parametrize("options", FORMULAS, ids=str)
def test_it_computes_the_published_formulas(options: dict[str, Any]) -> None:
    made, again = parameters(), parameters()
    assert (after(Chimera21(made, lr=1e-2, **options), made, 30) - plain(again, 30, **options)).abs().max() < 2e-6


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_together_and_one_by_one_agree(options: dict[str, Any], dtype: torch.dtype) -> None:
    one, other = parameters(dtype), parameters(dtype)
    first, second = Chimera21(one, lr=1e-2, **options), Chimera21(other, lr=1e-2, foreach=False, **options)
    assert (after(first, one, 20) - after(second, other, 20)).abs().max() <= 1e-7
    for p, q in zip(one, other, strict=True):
        for name, value in first.state[p].items():
            assert (value.double() - second.state[q][name].double()).abs().max() <= 1e-7, name


@pytest.mark.parametrize("options", [{}, {"psi_storage": "int8", "weight_decay": 0.1}, {"neutral": "floor"}], ids=str)
def test_the_compiled_step_agrees(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile's own
        one, other = parameters(), parameters()
        fused = after(Chimera21(one, lr=1e-2, compiled=True, **options), one, 10)
    assert (fused - after(Chimera21(other, lr=1e-2, **options), other, 10)).abs().max() < 2e-6


def test_a_machine_without_a_compiler_is_told_and_steps_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **words: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *args, **words: broken)
    compiled.kernel.cache_clear()
    one, other = parameters(), parameters()
    with pytest.warns(RuntimeWarning, match=r"no working C\+\+ compiler found.*install a C\+\+ compiler"):
        mine = after(Chimera21(one, compiled=True), one, 3)
    compiled.kernel.cache_clear()
    assert torch.equal(mine, after(Chimera21(other), other, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": math.nan}, "lr=nan"),
        ({"lr": torch.tensor([1.0, 2.0])}, "2 elements"),
        ({"betas": (1.0, 0.999)}, "betas=(1.0, 0.999)"),
        ({"betas": (0.9, -0.1)}, "betas=(0.9, -0.1)"),
        ({"eps": -1e-8}, "eps=-1e-08"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"rho_psi": 1.5}, "rho_psi=1.5"),
        ({"idle_decay": -0.5}, "idle_decay=-0.5"),
        ({"lambda_gate": math.inf}, "lambda_gate=inf"),
        ({"kappa": (2.0, 0.5)}, "kappa=(2.0, 0.5)"),
        ({"kappa": (0.0, 0.5)}, "kappa=(0.0, 0.5)"),
        ({"agreement": "next"}, "agreement='next'"),
        ({"neutral": "yes"}, "neutral='yes'"),
        ({"zero_gradient": "stop"}, "zero_gradient='stop'"),
        ({"psi_storage": "int4"}, "psi_storage='int4'"),
        ({"seed": -1}, "seed=-1"),
        ({"differentiable": True}, "differentiable=True"),
        ({"compiled": True, "neutral": "mean"}, "compiled=True with neutral='mean'"),
    ],
)
def test_bad_options_are_refused_for_the_optimizer_and_for_a_group(options: dict[str, Any], said: str) -> None:
    made = parameters()
    with pytest.raises(ValueError) as refused:
        Chimera21(made, **options)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    optimizer = Chimera21(made[:1])
    with pytest.raises(ValueError):
        optimizer.add_param_group({"params": made[1:], **options})
    assert len(optimizer.param_groups) == 1


def test_sparse_and_complex_gradients_are_refused() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (3,), check_invariants=True)
    with pytest.raises(BadGradient, match=r"parameter 0 of group 0 .* sparse gradient.*SparseAdam"):
        Chimera21([weight]).step()
    wave = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    wave.grad = torch.ones_like(wave)
    with pytest.raises(BadGradient, match=r"parameter wave .*complex gradient.*view_as_real"):
        Chimera21([("wave", wave)]).step()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("foreach", [None, False])
def test_gradients_that_are_not_finite_are_refused_and_nothing_is_changed(bad: float, foreach: bool | None) -> None:
    made = parameters()
    optimizer = Chimera21(made, foreach=foreach)
    before = after(optimizer, made, 2)
    moments = [optimizer.state[p]["exp_avg"].clone() for p in made[:4]]
    give(made, 2)
    assert made[2].grad is not None
    made[2].grad[1, 1] = bad
    with pytest.raises(BadGradient, match=r"parameter 2 of group 0 \(5, 7\) .* 1 of 35 .*check_finite=False"):
        optimizer.step()
    assert torch.equal(before, torch.cat([p.detach().double().flatten() for p in made]))
    assert all(torch.equal(optimizer.state[p]["exp_avg"], m) for p, m in zip(made, moments, strict=False))
    assert optimizer.state[made[0]]["step"].item() == 2
    optimizer.param_groups[0]["check_finite"] = False
    optimizer.step()


def test_huge_finite_gradients_are_not_mistaken_for_infinite_ones() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.full((4,), 3e38)
    Chimera21([weight]).step()  # their sum overflows
    assert bool(torch.isfinite(weight).all())
