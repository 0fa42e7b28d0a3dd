"""RAR against numbers of the reference class, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance.rar import RAR, RARConfig
from tests.provenance.rar import golden_rar

GOLDEN = golden_rar.numbers("small64")
LABELS, TOKENS = GOLDEN["labels"], GOLDEN["tokens"]


@pytest.fixture(scope="module")
def model() -> RAR:
    return golden_rar.transformer()


def nll(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.transpose(1, 2), tokens, reduction="none")  # (B, L)


def close(found: torch.Tensor, name: str) -> None:
    torch.testing.assert_close(found, GOLDEN[name], atol=1e-4, rtol=0)


@torch.no_grad()
def test_logits_of_the_reference(model: RAR) -> None:
    condition = model.conditions(LABELS)
    assert torch.equal(condition, GOLDEN["condition"])
    assert model.none_condition_id == 75
    close(model(TOKENS, condition), "logits")
    close(model(TOKENS, torch.full_like(condition, model.none_condition_id)), "logits_uncond")
    torch.testing.assert_close(model.logits(LABELS, TOKENS), GOLDEN["logits"][:, :-1], atol=1e-4, rtol=0)
    nobody = torch.full_like(LABELS, model.null_label)
    torch.testing.assert_close(model.logits(nobody, TOKENS), GOLDEN["logits_uncond"][:, :-1], atol=1e-4, rtol=0)


@torch.no_grad()
def test_permuted_logits_of_the_reference(model: RAR) -> None:
    logits, read = model(TOKENS, model.conditions(LABELS), GOLDEN["orders"], return_labels=True)
    assert torch.equal(read, GOLDEN["perm_labels"])
    close(logits, "perm_logits")
    close(nll(logits[:, :-1], read), "perm_nll")


@torch.no_grad()
def test_likelihoods_of_the_reference(model: RAR) -> None:
    close(nll(model.logits(LABELS, TOKENS), TOKENS), "nll")
    classes = [nll(model.logits(torch.full((2,), label), TOKENS), TOKENS).sum(1) for label in range(10)]
    close(torch.stack(classes, 1), "nll_per_class")


@torch.no_grad()
def test_no_position_sees_its_own_token_or_a_later_one(model: RAR) -> None:
    before = model.logits(LABELS, TOKENS)
    for place in (0, 7, 15):
        changed = TOKENS.clone()
        changed[:, place] = (changed[:, place] + 1) % 64
        after = model.logits(LABELS, changed)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        assert place == 15 or not torch.allclose(after[:, place + 1], before[:, place + 1], atol=1e-3)


def test_training_reaches_every_weight_that_is_read() -> None:
    config = RARConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        image_seq_len=4,
        codebook_size=6,
        condition_num_classes=3,
        dropout=0.1,
        attn_drop=0.1,
    )
    model = RAR(config)
    golden_rar.fill(model)
    model.train()
    torch.manual_seed(0)
    tokens, labels = torch.randint(6, (5, 4)), torch.randint(4, (5,))
    nll(model.logits(labels, tokens), tokens).mean().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


def test_a_new_model_predicts_from_an_unchanged_stream() -> None:
    """The modulations begin at zero, so that blocks add nothing and the class changes nothing behind its position."""
    torch.manual_seed(0)
    model = RAR(golden_rar.transformer().config).eval()
    assert all(not block.adaLN_modulation[1].weight.any() for block in model.blocks)
    assert 0.015 < float(model.lm_head.weight.detach().std()) < 0.025
    with torch.no_grad():
        one, other = (model.logits(torch.tensor([label]), TOKENS[:1]) for label in (0, 1))
    assert torch.equal(one[:, 1:], other[:, 1:])
    assert not torch.equal(one[:, 0], other[:, 0])


@pytest.mark.parametrize(
    ("labels", "tokens", "words"),
    [
        (torch.tensor([11]), TOKENS[:1], "labels from 11 to 11; expected 0 to 10, of which 10 stands for no class"),
        (torch.tensor([-1]), TOKENS[:1], "labels from -1"),
        (torch.tensor([[1]]), TOKENS[:1], r"labels have the shape \(1, 1\)"),
        (torch.tensor([1.0]), TOKENS[:1], "labels are torch.float32"),
        (torch.tensor([1]), TOKENS[:1, :-1], r"shape \(1, 15\); expected \(1, 16\)"),
        (torch.tensor([1]), TOKENS, r"shape \(2, 16\); expected \(1, 16\)"),
        (torch.tensor([1]), TOKENS[:1] + 64, "tokens from .*; expected 0 to 63"),
    ],
)
def test_bad_input_is_refused(model: RAR, labels: torch.Tensor, tokens: torch.Tensor, words: str) -> None:
    with pytest.raises(ChimeraError, match=words):
        model.logits(labels, tokens)


def test_labels_of_one_byte_do_not_overflow(model: RAR) -> None:
    assert model.conditions(torch.tensor([10], dtype=torch.uint8)).tolist() == [75]
    many = RAR(RARConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4))
    assert many.conditions(torch.tensor([200], dtype=torch.uint8)).tolist() == [1225]


def test_orders_of_another_length_are_refused(model: RAR) -> None:
    with pytest.raises(ChimeraError, match="orders of 8 positions; expected permutations of 16"):
        model(TOKENS, model.conditions(LABELS), GOLDEN["orders"][:, :8])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"hidden_size": 65}, "65 does not split into 4 heads"), ({"num_hidden_layers": 0}, "num_hidden_layers is 0")],
)
def test_bad_configurations_are_refused(wrong: dict[str, int], words: str) -> None:
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    with pytest.raises(ChimeraError, match=words):
        RARConfig(**{**shape, **wrong})
