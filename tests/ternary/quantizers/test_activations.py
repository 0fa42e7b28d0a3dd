"""The eight-bit activations: levels, gradient with and without the straight-through estimator, odd inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.quantizers.activations import ActivationQuantizer, activation


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.floats(1e-8, 1e8), st.floats(-3, 3))
def test_values_are_levels_of_the_formula(seed: int, size: float, shift: float) -> None:
    x = ((normal(7, 11, seed=seed) + shift) * size).double()
    beta = x.abs().max() / 127 + 1e-6
    quantizer = ActivationQuantizer()
    assert torch.equal(quantizer(x), torch.round(x / beta) * beta)
    codes, step = quantizer.codes(x)
    assert codes.dtype == torch.int8 and int(codes.abs().max()) <= 127
    assert torch.equal(codes * step, quantizer(x))
    assert ((quantizer(x) - x).abs() <= beta / 2 * (1 + 1e-12)).all()


def test_gradient_passes_unchanged_and_the_input_stays() -> None:
    x = normal(4, 5).requires_grad_()
    before, upstream = x.detach().clone(), normal(4, 5, seed=1)
    (ActivationQuantizer()(x) * upstream).sum().backward()
    assert torch.equal(x.grad, upstream)
    assert torch.equal(x.detach(), before)


def test_as_published_stops_the_gradient_at_the_same_values() -> None:
    x = normal(4, 5).requires_grad_()
    published = ActivationQuantizer(straight_through=False)(x)
    assert not published.requires_grad
    assert torch.equal(published, ActivationQuantizer()(x).detach())
    assert torch.equal(x.detach(), normal(4, 5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_rounded_in_float32(dtype: torch.dtype) -> None:
    x = normal(64, 64).to(dtype)
    y = ActivationQuantizer()(x)
    assert y.dtype == dtype
    assert torch.equal(y, ActivationQuantizer()(x.float()).to(dtype))


def test_odd_inputs() -> None:
    quantizer = ActivationQuantizer()
    assert quantizer(torch.empty(0, 3)).shape == (0, 3)
    assert torch.equal(quantizer(torch.zeros(3)), torch.zeros(3))
    assert quantizer(torch.tensor([1.0, torch.nan])).isnan().all()
    assert quantizer(torch.tensor([1.0, torch.inf])).isnan().any()
    assert float(quantizer(torch.tensor(-2.0))) == pytest.approx(-2, rel=1e-4), "a minimum beyond the maximum counts"
    turned = normal(6, 4).t()
    assert torch.equal(quantizer(turned), quantizer(turned.contiguous()))


def test_names() -> None:
    assert activation("int8").straight_through
    assert not activation("as_published").straight_through
    assert activation(None) is None and activation("none") is None
    with pytest.raises(UnknownName, match=r"activation quantizer 'int4'.*as_published"):
        activation("int4")
