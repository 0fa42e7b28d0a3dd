"""Soft assignment: never worse than greedy, blind to the batch, leaves the quantizer alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.var import MultiScaleQuantizer, optimise, refine
from chimera_lib.provenance.var.soft_assignment import assign


def quantizer() -> MultiScaleQuantizer:
    torch.manual_seed(0)
    return MultiScaleQuantizer(32, 4, (1, 2, 4))


def features() -> Tensor:
    """One reconstruction of random tokens, two maps that no tokens make."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(32, (1, 21), generator=generator)
    with torch.no_grad():
        made = quantizer().embed(tokens)
    return torch.cat((made, torch.randn(2, 4, 4, 4, generator=generator)))


def test_optimised_tokens_are_never_worse_than_greedy_ones_and_mostly_better() -> None:
    one, f = quantizer(), features()
    greedy, best = assign(one, f, one(f)), optimise(one, f, iterations=60)
    assert (best.mse <= greedy.mse).all()
    assert best.mse.mean() < 0.9 * greedy.mse.mean()
    again = assign(one, f, best.indices)
    torch.testing.assert_close(again.f_hat, best.f_hat)
    torch.testing.assert_close(again.mse, best.mse)


def test_the_schedule_frees_one_scale_fewer_each_call() -> None:
    one, f = quantizer(), features()
    first = refine(one, f, one(f), iterations=3, lr=1.0)
    second = refine(one, f, first.indices, free_scales=2, iterations=3, lr=1.0)
    assert torch.equal(first.indices[:, 5:], second.indices[:, 5:])
    assert not torch.equal(first.indices[:, 5:], one(f)[:, 5:])
    lowest = torch.stack([assign(one, f, one(f)).mse, refine(one, f, one(f), iterations=3, per_image=True).mse]).amin(0)
    torch.testing.assert_close(optimise(one, f, calls=1, iterations=3).mse, lowest)


def test_an_image_has_the_same_tokens_in_any_batch() -> None:
    one, f = quantizer(), features()
    with torch.no_grad():  # gradients near to the epsilon of Adam, as large codebooks and maps have them
        one.embedding.weight.mul_(1e-2)
        for phi in one.quant_resi.qresi_ls:
            phi.bias.zero_()
    batch = (f * 1e-2).repeat(40, 1, 1, 1)
    alone = torch.cat([optimise(one, single, iterations=20).indices for single in batch[:3].split(1)])
    together = optimise(one, batch, iterations=20).indices[:3]
    assert (alone == together).float().mean() > 0.98  # sums in another order
    as_published = optimise(one, batch, iterations=20, per_image=False).indices[:3]
    assert (alone == as_published).float().mean() < 0.95


def test_the_quantizer_gets_no_gradient_and_no_grad_does_not_stop_it() -> None:
    one, f = quantizer(), features().requires_grad_()
    with torch.no_grad():
        found = refine(one, f, one(f), iterations=5, lr=1.0)
    assert not torch.equal(found.indices, one(f))
    refine(one, f, one(f), iterations=2)
    assert all(parameter.grad is None for parameter in one.parameters())
    assert f.grad is None


@pytest.mark.parametrize(
    "options", [{"free_scales": 0}, {"free_scales": 4}, {"iterations": 0}, {"lr": 0.0}, {"tau_end": 0.0}]
)
def test_values_out_of_range_are_refused(options: dict[str, float]) -> None:
    one, f = quantizer(), features()
    with pytest.raises(ChimeraError, match="expected 1 to 3 free scales"):
        refine(one, f, one(f), **options)
    with pytest.raises(ChimeraError, match="calls=0"):
        optimise(one, f, calls=0)
