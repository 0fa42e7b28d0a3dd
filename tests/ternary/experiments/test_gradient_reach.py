"""Which parameters learn, learning by heart, and what eval forwards leave behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from chimera_lib.ternary.experiments import gradient_reach
from chimera_lib.ternary.layers import BitLinear

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(8, 3, 8, 8, generator=GENERATOR)
Y = torch.arange(8)


def test_the_published_activation_stops_the_gradient_before_the_last_layer() -> None:
    published, mended = (gradient_reach.network(activation=a, width=4) for a in ("as_published", "int8"))
    assert gradient_reach.parameters_with_gradient(published, X, Y) == ["fc.weight", "fc.bias"]
    assert len(gradient_reach.parameters_with_gradient(mended, X, Y)) == 65


def test_a_seed_decides_the_weights_and_nothing_else() -> None:
    state = torch.get_rng_state()
    first, again, other = (gradient_reach.network(seed=s, width=4).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_overfitting_gives_the_loss_before_each_step_and_after_the_last() -> None:
    model = gradient_reach.network(width=4, warmup=0)
    losses = gradient_reach.overfit(model, X, Y, steps=15, learning_rate=5e-3)
    assert len(losses) == 16 and losses[-1] < 0.5 * losses[0]
    still = gradient_reach.overfit(gradient_reach.network(width=4, warmup=0), X, Y, steps=2, learning_rate=0.0)
    assert still[0] == still[1] == losses[0], "without steps the loss stays"


class Counting(nn.Module):
    """A module whose state moves in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = BitLinear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(x)


@pytest.mark.parametrize("training", [False, True])
def test_traces_of_eval_forwards_are_found(training: bool) -> None:
    model = Counting().train(training)
    assert gradient_reach.changed_by_eval(model, torch.randn(2, 4)) == ["calls"]
    assert model.training is training
    assert gradient_reach.changed_by_eval(model.layer, torch.randn(2, 4)) == []
