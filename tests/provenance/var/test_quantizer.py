"""The multi-scale quantizer at other configurations, in training, in low precision, and on bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.var import MultiScaleQuantizer
from chimera_lib.provenance.var.quantizer import phi_of_scales


def quantizer(seed: int = 0, patch_nums: tuple[int, ...] = (1, 2, 4), **options: object) -> MultiScaleQuantizer:
    torch.manual_seed(seed)
    return MultiScaleQuantizer(32, 4, patch_nums, **options)


def features(batch: int = 3, side: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(batch, 4, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_ten_real_scales_share_four_convolutions_as_the_reference_does() -> None:
    assert phi_of_scales(10, 4) == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert phi_of_scales(4, 4) == [0, 1, 2, 3]
    assert phi_of_scales(6, 4) == [0, 0, 1, 2, 3, 3]
    assert phi_of_scales(10, 10) == list(range(10))


@pytest.mark.parametrize(
    ("share", "keys"),
    [(0, [f"{i}" for i in range(3)]), (1, ["qresi"]), (2, [f"qresi_ls.{i}" for i in range(2)])],
)
def test_sharing_of_phi(share: int, keys: list[str]) -> None:
    one = quantizer(share_quant_resi=share)
    named = {k.removesuffix(".weight") for k in one.quant_resi.state_dict() if k.endswith("weight")}
    assert named == set(keys)
    used = {id(one.phi(scale)) for scale in range(3)}
    assert len(used) == (3 if share == 0 else share)


def test_without_residual_convolution_the_last_scale_is_plain_vector_quantisation() -> None:
    one, f = quantizer(patch_nums=(4,), quant_resi=0.0), features()
    distances = torch.cdist(f.flatten(2).transpose(1, 2), one.embedding.weight.detach()[None])
    tokens = one(f)
    assert torch.equal(tokens, distances.argmin(dim=-1))
    torch.testing.assert_close(one.embed(tokens).flatten(2).transpose(1, 2), one.embedding(tokens))


def test_znorm_chooses_by_direction() -> None:
    one, f = quantizer(patch_nums=(4,), using_znorm=True), features()
    assert torch.equal(one(f), one(f * 100))
    assert not torch.equal(one(f), quantizer(patch_nums=(4,))(f * 100))


def test_tokens_and_reconstruction_do_not_depend_on_the_batch() -> None:
    one, f = quantizer(), features(5)
    assert torch.equal(one(f), torch.cat([one(single) for single in f.split(1)]))


def test_var_input_is_the_shrunk_reconstruction() -> None:
    one = quantizer()
    tokens = one(features())
    partial = one.embed_per_scale(tokens)
    second = partial[0].unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-1, -2)).flatten(2).transpose(1, 2)  # 4 -> 2
    third = partial[1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(one.var_input(tokens), torch.cat((second, third), dim=1))
    assert quantizer(patch_nums=(4,)).var_input(torch.zeros(2, 16, dtype=torch.int64)).shape == (2, 0, 4)


def test_training_pass_has_the_gradient_of_the_features_and_lowers_its_loss() -> None:
    one, f = quantizer(), features().requires_grad_()
    f_z, tokens, loss = one.straight_through(f)
    torch.testing.assert_close(f_z, one.embed(tokens))
    weights = torch.randn_like(f_z)
    assert torch.equal(torch.autograd.grad((f_z * weights).sum(), f, retain_graph=True)[0], weights)
    loss.backward()
    assert f.grad.abs().sum() > 0
    assert one.embedding.weight.grad.abs().sum() > 0
    optimizer = torch.optim.Adam(one.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        now = one.straight_through(f.detach())[2]
        now.backward()
        optimizer.step()
    assert now < 0.9 * loss


def test_autocast_changes_no_token() -> None:
    one, f = quantizer(), features(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, partial = one.greedy(f)
    plain = one.greedy(f)
    assert torch.equal(tokens, plain[0])
    assert torch.equal(partial, plain[1])


@pytest.mark.parametrize("patch_nums", [(), (2, 1), (1, 1), (0, 1)])
def test_scales_have_to_ascend(patch_nums: tuple[int, ...]) -> None:
    with pytest.raises(ChimeraError, match="ascending"):
        MultiScaleQuantizer(8, 4, patch_nums)


def test_other_shapes_are_refused() -> None:
    one = quantizer()
    with pytest.raises(ChimeraError, match=r"\(3, 4, 5, 5\).*expected \(B, 4, 4, 4\)"):
        one(features(side=5))
    with pytest.raises(ChimeraError, match=r"\(2, 20\).*expected \(B, 21\)"):
        one.embed(torch.zeros(2, 20, dtype=torch.int64))
