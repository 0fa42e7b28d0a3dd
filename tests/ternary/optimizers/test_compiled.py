"""What a compiled step is given: the numbers of its own step, made once for all parameters."""

from __future__ import annotations

import pytest
import torch

from chimera_lib.ternary.optimizers import Chimera21, compiled
from chimera_lib.ternary.optimizers.advance import Scalars
from chimera_lib.ternary.optimizers.buckets import SMALL


def test_numbers_are_made_once_for_a_step_and_anew_for_others() -> None:
    scalars = Scalars(*range(1, len(Scalars._fields) + 1))
    first = compiled.numbers(scalars, 1.0, torch.float32)
    assert compiled.numbers(scalars, 1.0, torch.float32) is first
    assert compiled.numbers(scalars, 0.5, torch.float32)[-1] == 0.5
    assert compiled.numbers(scalars, 1.0, torch.float64).dtype == torch.float64
    assert compiled.numbers(scalars._replace(rate=-7.0), 1.0, torch.float32)[Scalars._fields.index("rate")] == -7
    assert first[Scalars._fields.index("root_inverse")] == pytest.approx(1 / scalars.root)


def test_large_parameters_follow_a_schedule_as_uncompiled_ones_do() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(SMALL + extra, generator=generator) for extra in (1, 2, 3)]
    slopes = [[torch.randn(start.shape, generator=generator) for start in starts] for _ in range(4)]
    ends = []
    for fused in (False, True):
        parameters = [torch.nn.Parameter(start.clone()) for start in starts]
        optimizer = Chimera21(parameters, lr=1e-2, weight_decay=0.1, compiled=fused)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for grads in slopes:
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.grad = grad.clone()
            optimizer.step()
            schedule.step()
        ends.append([parameter.detach() for parameter in parameters])
    for plain, mine in zip(*ends, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-6, atol=1e-7)
