"""The transformer: what a position may see, the cache, guidance, dropped labels, other configurations, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.var import VAR, VQVAE
from chimera_lib.provenance.var.initialisation import initialise

CLASSES, VOCABULARY = 5, 32
LABELS = torch.tensor([0, 3, 4])
CONFIGURATIONS = {
    "public": {},
    "shared modulation": {"shared_aln": True},
    "plain attention": {"attn_l2_norm": False},
    "narrow": {"embed_dim": 24, "num_heads": 3, "mlp_ratio": 2.5},
    "first scale of four tokens": {"scales": (2, 3, 4)},
    "one scale": {"scales": (4,)},
}


def model(seed: int = 0, scales: tuple[int, ...] = (1, 2, 4), **options: object) -> VAR:
    torch.manual_seed(seed)
    vae = VQVAE(VOCABULARY, 4, 8, ch_mult=(1, 2), groups=8, num_res_blocks=1, v_patch_nums=scales).eval()
    var = VAR(vae, CLASSES, 2, **{"embed_dim": 32, "num_heads": 2, **options})
    return initialise(var, seed=seed, std=0.2, head=1.0, gate=1.0).eval()


def tokens_of(var: VAR, seed: int = 1) -> Tensor:
    shape = (len(LABELS), var.lvl_1L.shape[1])
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def rolled(var: VAR, tokens: Tensor, cfg: float) -> Tensor:
    """Logits that the sampler sees while `tokens` are forced upon it."""
    seen, forced = [], var.tokenizer.quantize.split(tokens)

    def choose(scale: int, logits: Tensor) -> Tensor:
        seen.append(logits)
        return forced[scale]

    var.roll_out(LABELS, choose, cfg=cfg)
    return torch.cat(seen, dim=1)


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_cache_and_teacher_forcing_agree(options: dict[str, object]) -> None:
    var = model(**options)
    tokens = tokens_of(var)
    plain, none = var.logits(LABELS, tokens), var.logits(torch.full_like(LABELS, CLASSES), tokens)
    assert (plain - none).abs().max() > 0.01
    torch.testing.assert_close(rolled(var, tokens, 0.0), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rolled(var, tokens, 3.0), var.guide(plain, none, 3.0), atol=1e-4, rtol=1e-4)


def test_drawn_tokens_are_those_whose_logits_teacher_forcing_gives() -> None:
    var = model()
    drawn = var.generate(LABELS, cfg=0, top_k=1)
    greedy = var.logits(LABELS, drawn).argmax(dim=-1)
    assert torch.equal(drawn, greedy)
    none = torch.full_like(LABELS, CLASSES)
    drawn = var.generate(LABELS, cfg=2, top_k=1)
    assert torch.equal(drawn, var.guide(var.logits(LABELS, drawn), var.logits(none, drawn), 2).argmax(dim=-1))


def test_a_position_sees_coarser_scales_only() -> None:
    var = model()
    tokens = tokens_of(var)
    before = var.logits(LABELS, tokens)
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 7) % VOCABULARY  # of the second scale, positions 1 to 4
    after = var.logits(LABELS, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] - after[:, 5:]).abs().amax(dim=-1).min() > 0


def test_same_generator_same_tokens() -> None:
    var = model()
    one, other, third = (var.generate(LABELS, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert var.tokenizer.decode(var.tokenizer.embed(one)).shape == (3, 3, 8, 8)


def test_draws_follow_the_logits() -> None:
    var = model(scales=(1,))
    labels = torch.zeros(20_000, dtype=torch.int64)
    drawn = var.generate(labels, cfg=0, top_k=0, top_p=0, temperature=2, generator=torch.Generator().manual_seed(0))
    expected = (var.logits(labels[:1], drawn[:1])[0, 0] / 2).softmax(dim=-1)
    shares = drawn.flatten().bincount(minlength=VOCABULARY) / len(labels)
    assert (shares - expected).abs().max() < 0.015


def test_labels_are_dropped_while_training_only() -> None:
    var = model(cond_drop_rate=1.0)
    tokens = tokens_of(var)
    var_input = var.tokenizer.quantize.var_input(tokens)
    none = var.logits(torch.full_like(LABELS, CLASSES), tokens)
    assert not torch.allclose(var(LABELS, var_input), none)
    var.train()
    torch.testing.assert_close(var(LABELS, var_input), none)
    torch.testing.assert_close(var.logits(LABELS, tokens), var.eval().logits(LABELS, tokens))


def test_dropout_acts_while_training_only() -> None:
    for option in ("drop_rate", "attn_drop_rate", "drop_path_rate"):
        var, without = model(**{option: 0.5}), model()
        tokens = tokens_of(var)
        torch.testing.assert_close(var.logits(LABELS, tokens), without.logits(LABELS, tokens))
        var.train()
        torch.manual_seed(4)
        assert not torch.allclose(var.logits(LABELS, tokens), without.logits(LABELS, tokens))


def test_the_tokenizer_is_not_part_of_the_weights() -> None:
    var = model()
    assert not [key for key in var.state_dict() if key.startswith(("vae", "quantize", "encoder"))]
    assert var.tokenizer.quantize.embedding.weight.data_ptr() not in {one.data_ptr() for one in var.parameters()}


def test_low_precision_comes_close() -> None:
    var = model()
    tokens = tokens_of(var)
    plain = var.logits(LABELS, tokens)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(var.logits(LABELS, tokens), plain, atol=0.1, rtol=0.1)
    rough = var.bfloat16()
    assert rough.logits(LABELS, tokens).dtype == torch.float32
    torch.testing.assert_close(rough.logits(LABELS, tokens), plain, atol=0.2, rtol=0.2)
    assert rough.generate(LABELS, generator=torch.Generator().manual_seed(0)).shape == tokens.shape


def test_initial_weights_come_from_the_seed_and_predict_evenly() -> None:
    var, other = model(seed=1), model(seed=2)
    one, again = (initialise(network, seed=3).state_dict() for network in (var, other))
    assert all(torch.equal(one[key], again[key]) for key in one if key.rpartition(".")[2] != "scale_mul_1H11")
    assert not torch.equal(one["pos_1LC"], initialise(other, seed=4).state_dict()["pos_1LC"])
    width, depth = 32, 2
    spread = one["word_embed.weight"].std().item()
    assert spread == pytest.approx(0.88 * (3 * width) ** -0.5, rel=0.1)  # 0.88: cut at two deviations
    for layer in ("attn.proj", "ffn.fc2"):  # narrower by what all branches add up to
        assert one[f"blocks.1.{layer}.weight"].std().item() == pytest.approx(spread / (2 * depth) ** 0.5, rel=0.2)
    gates, others = one["blocks.0.ada_lin.1.weight"].split([2 * width, 4 * width])
    assert gates.std().item() == pytest.approx(spread * 1e-5, rel=0.2)
    assert others.std().item() == pytest.approx(spread * 0.5, rel=0.2)
    nats = -var.logits(LABELS, tokens_of(var)).log_softmax(dim=-1).mean()
    assert nats.item() == pytest.approx(torch.tensor(float(VOCABULARY)).log().item(), rel=0.01)


def test_a_few_steps_learn_a_constant_image() -> None:
    var = initialise(model(), seed=0).train()
    tokens = tokens_of(var)[:1].expand(3, -1)
    var_input = var.tokenizer.quantize.var_input(tokens).detach()
    optimizer = torch.optim.Adam(var.parameters(), 0.01)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(var(LABELS, var_input).flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    assert torch.equal(var.eval().generate(LABELS, top_k=1), tokens)


def test_bad_values_are_refused() -> None:
    var = model()
    tokens = tokens_of(var)
    with pytest.raises(ChimeraError, match="expected 0 to 4, or 5 for none"):
        var.logits(LABELS + 2, tokens)
    with pytest.raises(ChimeraError, match=r"labels of shape \(3, 1\)"):
        var.generate(LABELS[:, None])
    with pytest.raises(ChimeraError, match=r"\(3, 20\).*\(3, 21\)"):
        var.logits(LABELS, tokens[:, 1:])
    with pytest.raises(ChimeraError, match="expected 0 to 31"):
        var.logits(LABELS, tokens + 1 + VOCABULARY)
    with pytest.raises(ChimeraError, match="multiple of num_heads=3"):
        VAR(var.tokenizer, embed_dim=32, num_heads=3)
    with pytest.raises(ChimeraError, match=r"the tokenizer has \(1, 2, 4\)"):
        VAR(var.tokenizer, embed_dim=32, num_heads=2, patch_nums=(1, 4))
