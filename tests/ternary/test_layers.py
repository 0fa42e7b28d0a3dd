"""Ternary layers against torch's own on the quantised weight, with every option that those have."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary import quantizers
from chimera_lib.ternary.layers import BitConv2d, BitLinear

MODES = tuple(quantizers.QUANTIZERS)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x: torch.Tensor) -> torch.Tensor:
    beta = x.abs().max() / 127 + 1e-6
    return torch.round(x / beta) * beta


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 0, 5), (2, 1, 3, 4, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_linear_with_any_leading_dimensions(mode: str, shape: tuple[int, ...]) -> None:
    layer = BitLinear(5, 4, mode=mode).eval()
    x = normal(*shape)
    expected = F.linear(by_hand(x) if x.numel() else x, layer.quantizer.trits(layer.weight).values(), layer.bias)
    assert torch.equal(layer(x), expected)
    assert layer(x).shape == (*shape[:-1], 4)


OPTIONS = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 1), "dilation": (2, 1), "padding": (2, 0)},
    {"kernel_size": 3, "groups": 4, "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "bias": False},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular", "groups": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    {"kernel_size": 1, "dtype": torch.float64},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_convolution_with_every_option(options: dict) -> None:
    layer = BitConv2d(4, 8, **options, alpha_target=0.6, warmup=0).eval()
    plain = nn.Conv2d(4, 8, **options)
    plain.load_state_dict(
        {"weight": layer.quantizer.trits(layer.weight).values()} | ({} if plain.bias is None else {"bias": layer.bias})
    )
    x = normal(2, 4, 9, 9).to(layer.weight.dtype)
    assert torch.equal(layer(x), plain(by_hand(x)))
    assert torch.equal(layer(x[0]), plain(by_hand(x[0]))), "a picture without a batch"
    assert layer.quantizer.alpha_target == 0.6


@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_of_the_quantised_product(mode: str) -> None:
    layer = BitConv2d(3, 4, 3, padding=1, mode=mode).eval()
    x = normal(2, 3, 6, 6).requires_grad_()
    upstream = normal(2, 4, 6, 6, seed=1)
    (layer(x) * upstream).sum().backward()
    value = layer.quantizer.trits(layer.weight).values().requires_grad_()
    rounded = by_hand(x.detach()).requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    (F.conv2d(rounded, value, bias, padding=1) * upstream).sum().backward()
    assert torch.equal(x.grad, rounded.grad)
    assert torch.equal(layer.bias.grad, bias.grad)
    if mode in ("chimera", "strict_bitnet"):
        assert torch.equal(layer.weight.grad, value.grad)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_they_are_torchs_layers() -> None:
    linear, conv = BitLinear(3, 2, bias=False), BitConv2d(3, 2, 1)
    assert isinstance(linear, nn.Linear) and isinstance(conv, nn.Conv2d)
    assert [name for name, _ in linear.named_parameters()] == ["weight"]
    assert [name for name, _ in conv.named_parameters()] == ["weight", "bias"]
    assert "alpha_min=0.0, warmup=100, rho_s=0.95" in repr(linear)
    assert BitLinear(3, 2, activation=None).activation is None
    with pytest.raises(UnknownName, match="quantizer mode 'bitnet'"):
        BitLinear(3, 2, mode="bitnet")
    with pytest.raises(UnknownName, match="activation quantizer 'int7'"):
        BitConv2d(3, 2, 1, activation="int7")
    with pytest.raises(TypeError, match="mode 'chimera' has no option 'paddding'"):
        BitConv2d(3, 2, 1, paddding=1)


@pytest.mark.parametrize("mode", MODES)
def test_from_shares_the_parameters(mode: str) -> None:
    linear, conv = nn.Linear(4, 3), nn.Conv2d(4, 3, 3, stride=2, bias=False).eval()
    a = BitLinear.from_linear(linear, mode=mode, activation=None)
    b = BitConv2d.from_conv(conv, mode=mode)
    assert type(a) is BitLinear and type(b) is BitConv2d
    assert a.weight is linear.weight and a.bias is linear.bias and b.weight is conv.weight and b.bias is None
    assert (b.stride, a.training, b.training, b.quantizer.training) == ((2, 2), True, False, False)
    assert not hasattr(linear, "quantizer"), "the layer itself is left alone"
    a.register_buffer("own", torch.zeros(1))
    assert "own" not in linear.state_dict()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(mode: str, dtype: torch.dtype) -> None:
    layer = BitLinear(8, 4, mode=mode).to(dtype)
    x = normal(3, 8).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    y.sum().backward()
    assert layer.weight.grad.dtype == dtype
    assert torch.equal(
        layer.eval()(x), F.linear(layer.activation(x), layer.quantizer.trits(layer.weight).values(), layer.bias)
    )


@pytest.mark.parametrize("mode", MODES)
def test_autocast(mode: str) -> None:
    layer = nn.Sequential(BitConv2d(3, 4, 3, mode=mode), nn.ReLU(), nn.Flatten(), BitLinear(64, 2, mode=mode))
    full = copy.deepcopy(layer)
    x = normal(2, 3, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.abs().sum() > 0 for p in layer.parameters())
    expected = full(x)
    torch.testing.assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    for a, b in zip(layer.buffers(), full.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mode", MODES)
def test_layers_survive_copies_and_files(mode: str) -> None:
    layer = BitLinear(6, 4, mode=mode)
    for _ in range(3):
        layer(normal(2, 6))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = BitLinear(6, 4, mode=mode)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = normal(5, 6, seed=1)
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  (its own)
        assert torch.equal(twin(x), copy.deepcopy(layer)(x)), "the next training forward is the same too"


class Scaled(nn.Linear):
    """A subclass that adds something of its own to torch's forward."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside)
        self.factor = 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * super().forward(x)


class Direct(nn.Linear):
    """A subclass that never asks torch's forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


def test_subclasses_keep_what_they_add() -> None:
    plain = Scaled(4, 3)
    layer = BitLinear.from_linear(plain, mode="strict_bitnet").eval()
    assert isinstance(layer, Scaled) and isinstance(layer, BitLinear) and layer.factor == 3.0
    x = normal(2, 4)
    expected = 3 * F.linear(by_hand(x), layer.quantizer.trits(layer.weight).values(), layer.bias)
    assert torch.equal(layer(x), expected)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  (its own)
        assert type(twin) is type(layer) and torch.equal(twin(x), expected)


def test_what_cannot_be_converted_is_refused() -> None:
    cases = {
        r"Direct.forward does not call super\(\).forward": Direct(3, 2),
        "expected a Linear": nn.Conv2d(3, 2, 1),
        "ternary already": BitLinear(3, 2),
        "run one forward first": nn.LazyLinear(2),
        "computed from other parameters": nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)),
        "torch.complex64, expected real floating point": nn.Linear(3, 2, dtype=torch.complex64),
    }
    for message, layer in cases.items():
        with pytest.raises(TypeError, match=message):
            BitLinear.from_linear(layer)
    replaced = nn.Linear(3, 2)
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(TypeError, match="forward has been replaced on the instance"):
        BitLinear.from_linear(replaced)


def test_hooks_are_taken_over() -> None:
    plain = nn.Linear(3, 2)
    seen = []
    plain.register_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    BitLinear.from_linear(plain)(normal(1, 3))
    assert seen == [BitLinear]
