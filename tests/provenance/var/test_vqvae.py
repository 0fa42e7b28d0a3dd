"""The tokenizer at small configurations: shapes, gradients, ranges, refusals."""

from __future__ import annotations

import pytest
import torch

from chimera_lib.errors import BadImage
from chimera_lib.provenance.var import VQVAE


def tokenizer(**options: object) -> VQVAE:
    torch.manual_seed(0)
    small = {"vocab_size": 16, "z_channels": 4, "ch": 8, "ch_mult": (1, 2, 3), "v_patch_nums": (1, 2, 4, 8)}
    return VQVAE(**{**small, "groups": 8, "num_res_blocks": 1, **options}).eval()


def pictures(batch: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(3))


def test_shapes_of_a_miniature() -> None:
    vae = tokenizer()
    assert vae.image_size == 32
    f = vae.encode(pictures())
    tokens = vae.quantize(f)
    assert f.shape == vae.embed(tokens).shape == (2, 4, 8, 8)
    assert tokens.shape == (2, 85)
    images = vae.decode(f)
    assert images.shape == (2, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize(
    ("options", "absent"),
    [({"using_sa": False}, "down.2.attn.0.qkv.weight"), ({"using_mid_sa": False}, "mid.attn_1.qkv.weight")],
)
def test_attention_can_be_left_out(options: dict[str, bool], absent: str) -> None:
    assert f"encoder.{absent}" in tokenizer().state_dict()
    assert f"encoder.{absent}" not in tokenizer(**options).state_dict()
    assert tokenizer(**options).encode(pictures()).shape == (2, 4, 8, 8)


def test_encoder_and_decoder_pass_gradients() -> None:
    vae, x = tokenizer(), pictures().requires_grad_()
    vae.decode(vae.encode(x), clamp=False).sum().backward()
    assert x.grad.abs().amax(dim=(1, 2, 3)).min() > 0


def test_training_pass() -> None:
    vae = tokenizer().train()
    images, tokens, loss = vae(pictures())
    torch.testing.assert_close(images, vae.decode(vae.embed(tokens), clamp=False))
    (images.sum() + loss).backward()
    missing = {name for name, one in vae.named_parameters() if one.grad is None}
    assert not missing


def test_half_precision_comes_close() -> None:
    vae = tokenizer()
    rough = tokenizer().bfloat16()
    f = vae.encode(pictures())
    torch.testing.assert_close(rough.encode(pictures()).float(), f, atol=0.05, rtol=0.05)
    agree = (rough.quantize(rough.encode(pictures())) == vae.quantize(f)).float().mean()
    assert agree > 0.5
    assert rough.decode(f).shape == (2, 3, 32, 32)


def test_bad_images_are_refused() -> None:
    vae, x = tokenizer(), pictures()
    for bad, said in (
        (x[:, :1], r"\(2, 1, 32, 32\)"),
        (x[0], r"\(3, 32, 32\)"),
        (x[..., :31], "multiples of 4"),
        ((x * 255).byte(), "uint8"),
        (x * 2 - 1, "expected 0 to 1"),
        (x.masked_fill(x > 0.9, torch.nan), "nan"),
    ):
        with pytest.raises(BadImage, match=said):
            vae.encode(bad)
