"""The guidance schedule in closed form, and guided probabilities against those of the reference's sampler."""

from __future__ import annotations

import math

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar import guided_logits
from chimera_lib.provenance.rar.guidance import scale
from tests.provenance.rar import golden_rar

GOLDEN = golden_rar.numbers("small64")


def test_schedule_in_closed_form() -> None:
    assert [scale(step, 4, 5.0, 1.0) for step in (0, 2)] == [1.0, pytest.approx(3.0)]
    assert scale(1, 2, 3.0, 2.0) == pytest.approx(1 + (1 - math.cos(math.pi / 4)))
    assert [scale(step, 7, 4.5) for step in range(7)] == [4.5] * 7  # power 0: the first step too
    assert all(scale(step, 9, 1.0, 2.0) == 1 for step in range(9))


@pytest.mark.parametrize(
    ("name", "cfg_pow", "temperature"),
    [("probs_cfg4_pow2p75_t1p02", 2.75, 1.02), ("probs_cfg4_pow0_t1", 0.0, 1.0)],
)
@torch.no_grad()
def test_probabilities_of_the_reference(name: str, cfg_pow: float, temperature: float) -> None:
    model = golden_rar.transformer()
    logits = guided_logits(model, GOLDEN["labels"], GOLDEN["tokens"], cfg=4, cfg_pow=cfg_pow)
    torch.testing.assert_close((logits / temperature).softmax(-1), GOLDEN[name], atol=1e-4, rtol=0)


@torch.no_grad()
def test_without_guidance_the_logits_are_the_conditional_ones() -> None:
    model = golden_rar.transformer()
    labels, tokens = GOLDEN["labels"], GOLDEN["tokens"]
    plain = model.logits(labels, tokens)
    assert torch.equal(guided_logits(model, labels, tokens, cfg=0), plain)
    torch.testing.assert_close(guided_logits(model, labels, tokens, cfg=1), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cfg", "power"), [(-1.0, 0.0), (math.nan, 0.0), (4.0, -1.0), (4.0, math.inf)])
def test_bad_scales_are_refused(cfg: float, power: float) -> None:
    with pytest.raises(ChimeraError, match="expected finite numbers, 0 or more"):
        scale(0, 4, cfg, power)
