"""ResNet-20: its size, that all of it learns, and that the published activation lets two parameters of 65 learn."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.ternary.quantizers.statistics import by_layer
from chimera_lib.ternary.resnet import MODES, ChimeraResNet20


def make(*args: object, **options: object) -> ChimeraResNet20:
    torch.manual_seed(0)
    return ChimeraResNet20(*args, **options)


def pictures(count: int = 8, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, side, side, generator=generator), torch.randint(0, 10, (count,), generator=generator)


def learning(model: nn.Module) -> list[str]:
    x, y = pictures()
    F.cross_entropy(model(x), y).backward()
    return [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]


def test_size() -> None:
    plain = make("fp32_baseline")
    assert sum(p.numel() for p in plain.parameters()) == 269_722
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in plain.modules()) == 20
    features = plain.blocks(F.relu(plain.bn(plain.conv(torch.zeros(1, 3, 32, 32)))))
    assert features.shape == (1, 64, 8, 8)
    published = make("fp32_baseline", shortcut="projection")
    assert sum(p.numel() for p in published.parameters()) == 272_474
    assert len(list(published.parameters())) == 65
    assert by_layer(plain) == {}


@pytest.mark.parametrize("shortcut", ["identity", "projection"])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_gets_a_gradient(mode: str, ends: bool, shortcut: str) -> None:
    model = make(mode, first_last_fp32=ends, shortcut=shortcut)
    assert learning(model) == [name for name, _ in model.named_parameters()]
    layers = 20 + 2 * (shortcut == "projection")
    assert len(by_layer(model)) == (0 if mode == "fp32_baseline" else layers - 2 * ends)


@pytest.mark.parametrize("mode", ["chimera", "strict_bitnet"])
def test_with_the_published_activation_two_of_65_do(mode: str) -> None:
    model = make(mode, activation="as_published", first_last_fp32=False, shortcut="projection")
    assert len(list(model.parameters())) == 65
    assert learning(model) == ["fc.weight", "fc.bias"]


def test_overfitting_needs_the_straight_through_estimator() -> None:
    """64 images, 25 steps: without, the classifier alone learns, above features that never change."""
    x, y = pictures(64)
    losses = {}
    for activation in ("as_published", "int8"):
        model = make("chimera", activation=activation, first_last_fp32=False, shortcut="projection")
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        course = []
        for _ in range(25):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            course.append(loss.item())
        losses[activation] = course
    published, ours = losses["as_published"], losses["int8"]
    assert published[0] == ours[0], "the same forward"
    assert 0 < published[0] - published[-1] < 0.4
    assert ours[-1] < 0.5


def test_modes_start_from_the_same_weights() -> None:
    states = [make(mode).state_dict() for mode in MODES]
    for state in states[1:]:
        assert all(torch.equal(value, state[name]) for name, value in states[0].items())


@pytest.mark.parametrize("mode", MODES)
def test_saves_and_resumes_exactly(mode: str) -> None:
    model = make(mode, width=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = pictures(4)

    def steps(net: nn.Module, opt: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            opt.zero_grad()
            F.cross_entropy(net(x), y).backward()
            opt.step()

    steps(model, optimizer, 2)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    steps(model, optimizer, 2)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = ChimeraResNet20(mode, width=4)
    resumed.load_state_dict(state["model"])
    other = torch.optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    other.load_state_dict(state["optimizer"])
    steps(resumed, other, 2)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    before = copy.deepcopy(model.eval().state_dict())
    assert torch.equal(model(x), resumed.eval()(x))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_bad_input() -> None:
    with pytest.raises(UnknownName, match=r"mode of ChimeraResNet20 'fp32'; known: fp32_baseline"):
        ChimeraResNet20("fp32")
    with pytest.raises(ValueError, match="shortcut='A': expected 'identity'"):
        ChimeraResNet20(shortcut="A")
    with pytest.raises(ValueError, match="width=0, classes=10: expected at least 1"):
        ChimeraResNet20(width=0)
