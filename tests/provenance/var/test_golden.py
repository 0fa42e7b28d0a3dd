"""VAR against the reference: features, tokens, reconstructions, logits, sampling, soft assignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from chimera_lib.provenance.var import refine, truncate
from tests.provenance.var.golden_var import ATOL, images, models, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

CASE = numbers()
SOFT = numbers("optquant_small64")
NONE = torch.full_like(CASE["labels"], 10)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    """The golden numbers need none; `refine` turns them on for itself."""
    with torch.no_grad():
        yield


def same(got: Tensor, name: str, atol: float = ATOL) -> None:
    torch.testing.assert_close(got, CASE[name], atol=atol, rtol=0, msg=lambda text: f"{name}: {text}")


def signed(of_unit: Tensor) -> Tensor:
    """Images of [0, 1] in the reference's range [-1, 1]."""
    return of_unit * 2 - 1


def mean_square(x: Tensor) -> Tensor:
    return x.square().mean(dim=(1, 2, 3))


def test_features() -> None:
    vae, _ = models()
    same(vae.encoder(signed(images())), "enc")
    same(vae.encode(images()), "f")


def test_greedy_tokens_and_what_they_reconstruct() -> None:
    vae, _ = models()
    tokens, partial = vae.quantize.greedy(CASE["f"])
    assert torch.equal(tokens, CASE["idx"])
    assert torch.equal(vae.quantize(vae.encode(images())), CASE["idx"])
    same(partial, "fhat_per_scale")
    same(vae.quantize.embed_per_scale(tokens), "fhat_per_scale")
    same(vae.embed(tokens), "fhat")
    same(vae.embed(CASE["tokens"]), "fhat_from_tokens")
    same(vae.quantize.var_input(CASE["tokens"]), "var_input")


def test_reconstructions_and_the_errors_between_them() -> None:
    vae, _ = models()
    f, x = vae.encode(images()), images()
    f_z = vae.embed(vae.quantize(f))
    same(signed(vae.decode(f_z, clamp=False)), "rec_quant_unclamped")
    same(signed(vae.decode(f_z)), "rec_quant")
    first = vae.decode(f)
    second = vae.decode(vae.encode(first))
    same(signed(first), "rec1")
    same(signed(second), "rec2")
    same(signed(vae.decode(vae.embed(CASE["tokens"]))), "img_from_tokens")
    same(mean_square(f - f_z), "quant_loss")
    same(mean_square(signed(vae.decode(f_z)) - signed(x)), "reconstruction")
    same(mean_square(signed(first) - signed(x)), "enc_num")
    same(mean_square(signed(second) - signed(first)), "enc_den")


def test_teacher_forced_logits() -> None:
    _, var = models()
    logits = var.logits(CASE["labels"], CASE["tokens"])
    same(logits, "logits")
    same(var.logits(NONE, CASE["tokens"]), "logits_uncond")
    same(var(CASE["labels"], CASE["var_input"]), "logits")
    nll = -logits.log_softmax(dim=-1).gather(-1, CASE["tokens"].unsqueeze(-1)).squeeze(-1)
    same(nll, "nll")


def test_guided_logits_with_the_cache_and_by_teacher_forcing() -> None:
    vae, var = models()
    forced, seen = vae.quantize.split(CASE["tokens"]), []

    def choose(scale: int, logits: Tensor) -> Tensor:
        seen.append(logits)
        return forced[scale]

    tokens = var.roll_out(CASE["labels"], choose, cfg=1.5)
    same(torch.cat(seen, dim=1), "kv_logits_cfg15")
    assert torch.equal(tokens, CASE["tokens"])
    torch.testing.assert_close(vae.decode(vae.embed(tokens)), CASE["sample_img01"], atol=ATOL, rtol=0)
    same(var.guide(CASE["logits"], CASE["logits_uncond"], 1.5), "kv_logits_cfg15")


@pytest.mark.parametrize(
    ("name", "top_k", "top_p"), [("topk7", 7, 0.0), ("topp08", 0, 0.8), ("topk20_topp09", 20, 0.9)]
)
def test_what_the_sampler_keeps(name: str, top_k: int, top_p: float) -> None:
    kept = truncate(CASE["filter_in"], top_k=top_k, top_p=top_p)
    assert torch.equal(kept.isfinite().long(), CASE[f"filter_{name}"])
    assert torch.equal(kept[kept.isfinite()], CASE["filter_in"][kept.isfinite()])


def test_soft_assignment() -> None:
    vae, _ = models()
    tokens = SOFT["idx_greedy"]
    assert torch.equal(vae.quantize(CASE["f"]), tokens)
    for call, free in (("stage0", 4), ("fix3", 3), ("fix2", 2)):
        found = refine(vae.quantize, CASE["f"], tokens, free_scales=free, iterations=30)
        # near-ties may fall otherwise on another machine, so not every token has to agree
        assert (found.indices == SOFT[f"idx_{call}"]).float().mean() >= 0.9
        assert found.mse.mean().item() == pytest.approx(SOFT[f"mse_{call}"].item(), rel=0.02)
        torch.testing.assert_close(vae.embed(found.indices), found.f_hat)
        tokens = SOFT[f"idx_{call}"]
    assert torch.equal(found.indices[:, 5:], SOFT["idx_fix3"][:, 5:])  # scales that were held


def test_soft_assignment_of_features_that_are_exactly_representable() -> None:
    vae, _ = models()
    f = CASE["fhat_from_tokens"]
    greedy = vae.quantize(f)
    assert torch.equal(greedy, SOFT["bel_idx_greedy"])
    assert mean_square(f - vae.embed(greedy)).mean().item() == pytest.approx(SOFT["bel_mse_greedy"].item(), rel=1e-4)
    found = refine(vae.quantize, f, greedy, iterations=100)
    assert found.mse.mean().item() == pytest.approx(SOFT["bel_mse_stage0_100"].item(), rel=0.02)
    assert (found.indices == SOFT["bel_idx_stage0_100"]).float().mean() >= 0.9
