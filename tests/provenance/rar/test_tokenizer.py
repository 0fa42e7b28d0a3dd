"""The MaskGIT tokenizer against numbers of the reference class, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from chimera_lib.errors import BadImage, ChimeraError
from chimera_lib.provenance.rar import MaskGitVQGAN, MaskGitVQGANConfig
from tests.provenance.rar import golden_rar

GOLDEN = golden_rar.numbers("small64")
IMAGES = GOLDEN["image_u8"].float() / 255


@pytest.fixture(scope="module")
def tokenizer() -> MaskGitVQGAN:
    return golden_rar.tokenizer()


@pytest.fixture(scope="module")
def measured(tokenizer: MaskGitVQGAN) -> dict[str, torch.Tensor]:
    def error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().mean((1, 2, 3))

    with torch.no_grad():
        f = tokenizer.encode(IMAGES)
        codes = tokenizer.embed(tokenizer.quantize(f))
        first = tokenizer.decode(f)
        second = tokenizer.decode(tokenizer.encode(first))
        return {
            "f": f,
            "zq": codes,
            "rec": tokenizer.decode(codes),
            "rec_unclamped": tokenizer.decode(codes, clamp=False),
            "rec1": first,
            "rec2": second,
            "quant_loss": error(f, codes),
            "enc_num": error(first, IMAGES),
            "enc_den": error(second, first),
            "img_from_tokens": tokenizer.decode(tokenizer.embed(GOLDEN["tokens"])),
        }


@pytest.mark.parametrize(
    "name",
    ["f", "zq", "rec", "rec_unclamped", "rec1", "rec2", "quant_loss", "enc_num", "enc_den", "img_from_tokens"],
)
def test_numbers_of_the_reference(measured: dict[str, torch.Tensor], name: str) -> None:
    torch.testing.assert_close(measured[name], GOLDEN[name], atol=1e-4, rtol=0)


def test_tokens_of_the_reference(tokenizer: MaskGitVQGAN) -> None:
    assert torch.equal(tokenizer.quantize(GOLDEN["f"]), GOLDEN["ids"])
    with torch.no_grad():
        assert torch.equal(tokenizer.quantize(tokenizer.encode(IMAGES)), GOLDEN["ids"])
        torch.testing.assert_close(tokenizer(IMAGES), GOLDEN["rec"], atol=1e-4, rtol=0)


def test_distances_are_squared_euclidean(tokenizer: MaskGitVQGAN) -> None:
    f = GOLDEN["f"]
    codes = tokenizer.quantize.embedding.weight
    rows = f.permute(0, 2, 3, 1).reshape(2, -1, 1, f.shape[1])
    torch.testing.assert_close(tokenizer.quantize.distances(f), (rows - codes).square().sum(-1), atol=1e-4, rtol=1e-5)


def test_exact_codes_come_back_as_their_indices(tokenizer: MaskGitVQGAN) -> None:
    wide = torch.arange(64).view(1, 4, 16)
    f = tokenizer.embed(wide)
    assert f.shape == (1, 32, 4, 16)
    assert torch.equal(tokenizer.quantize(f), wide.flatten(1))
    half = MaskGitVQGAN(tokenizer.config).bfloat16()
    half.load_state_dict(tokenizer.state_dict())
    assert torch.equal(half.quantize(half.embed(wide)), wide.flatten(1))
    with torch.no_grad():
        assert half.decode(f).dtype == torch.float32


def test_other_shapes_are_built_from_the_configuration() -> None:
    config = MaskGitVQGANConfig(
        codebook_size=16, z_channels=5, hidden_channels=8, channel_mult=(1, 3), num_res_blocks=1, norm_groups=4
    )
    model = MaskGitVQGAN(config).eval()
    assert config.stride == 2
    with torch.no_grad():
        assert model.encode(torch.rand(1, 3, 6, 10)).shape == (1, 5, 3, 5)
        assert model(torch.rand(1, 3, 6, 10)).shape == (1, 3, 6, 10)


def test_gradients_reach_the_encoder_outside_the_range_of_images(tokenizer: MaskGitVQGAN) -> None:
    f = (50 * GOLDEN["f"]).requires_grad_()
    images = tokenizer.decode(f, clamp=False)
    assert images.max() > 1
    (gradient,) = torch.autograd.grad(images.square().mean(), f)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"torch\.uint8"),
        (torch.zeros(3, 64, 64), r"shape \(3, 64, 64\)"),
        (torch.zeros(1, 1, 64, 64), r"\(B, 3, H, W\)"),
        (torch.zeros(0, 3, 64, 64), r"shape \(0, 3"),
        (torch.zeros(1, 3, 64, 60), "multiples of 16"),
        (torch.full((1, 3, 64, 64), 1.5), r"to 1\.5; expected \[0, 1\]"),
        (torch.full((1, 3, 64, 64), -0.5), r"from -0\.5"),
        (torch.full((1, 3, 64, 64), torch.nan), "from nan"),
    ],
)
def test_bad_images_are_refused(tokenizer: MaskGitVQGAN, images: torch.Tensor, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        tokenizer.encode(images)


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        (torch.zeros(1, 15, dtype=torch.long), "15 indices make no square grid"),
        (torch.zeros(1, 4, 4, 1, dtype=torch.long), "expected"),
        (torch.zeros(1, 16), "torch.float32; expected integers"),
        (torch.full((1, 16), 64), "from 64 to 64; expected 0 to 63"),
        (torch.full((1, 16), -1), "from -1 to -1"),
    ],
)
def test_bad_indices_are_refused(tokenizer: MaskGitVQGAN, indices: torch.Tensor, words: str) -> None:
    with pytest.raises(ChimeraError, match=words):
        tokenizer.embed(indices)


def test_bad_features_are_refused(tokenizer: MaskGitVQGAN) -> None:
    with pytest.raises(ChimeraError, match=r"\(1, 31, 4, 4\); expected \(B, 32, h, w\)"):
        tokenizer.quantize(torch.zeros(1, 31, 4, 4))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"hidden_channels": 48}, "48 channels.*32 groups"),
        ({"channel_mult": ()}, r"channel_mult is \(\)"),
        ({"channel_mult": (1, 0)}, "at least 1 a level"),
        ({"codebook_size": 0}, "codebook_size is 0"),
        ({"norm_groups": 0}, "norm_groups is 0"),
    ],
)
def test_bad_configurations_are_refused(wrong: dict[str, int], words: str) -> None:
    with pytest.raises(ChimeraError, match=words):
        MaskGitVQGANConfig(**wrong)
