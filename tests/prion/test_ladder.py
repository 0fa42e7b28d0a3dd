"""The ladder: its shapes, its text, and training that can be interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import safetensors.torch
import torch

from chimera_lib.errors import AssetMissing, ChimeraError, UnknownName
from chimera_lib.prion import corpus, ladder, ladder_training

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"neox-0.3m": 331_136, "neox-1m": 1_055_488, "neox-3m": 3_062_784, "neox-8m": 8_053_760}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_sizes_are_what_the_names_say(name: str, size: int) -> None:
    model = ladder.new(name, 0)
    assert sum(one.numel() for one in model.parameters()) == size
    assert model.config._attn_implementation == "eager"


def test_no_work_lies_in_two_splits_and_no_folio_edition_is_used() -> None:
    works = {split: set(corpus.texts(split)) for split in corpus.SPLITS}
    assert [len(works[split]) for split in ("train", "dev", "test")] == [39, 1, 2]
    assert not works["train"] & (works["dev"] | works["test"])
    test = " ".join(works["test"])
    assert "When shall we three meet again" in test  # Macbeth
    assert "When shall we three meet again" not in " ".join(works["train"])


def test_ids_are_kept_by_text_and_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(corpus, "cache", lambda: tmp_path)
    monkeypatch.setattr(corpus, "texts", lambda split: ["To be, or not", " to be"])
    tokenizer = corpus.ladder_tokenizer()
    expected = tokenizer("To be, or not")["input_ids"] + tokenizer(" to be")["input_ids"]
    for _ in range(2):
        corpus._tokens.cache_clear()
        assert corpus.tokens("dev", tokenizer).tolist() == expected
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-3])  # half written by somebody else
    corpus._tokens.cache_clear()
    assert corpus.tokens("dev", tokenizer).tolist() == expected
    monkeypatch.setattr(corpus, "texts", lambda split: ["Out, out"])
    corpus._tokens.cache_clear()
    assert corpus.tokens("dev", tokenizer).tolist() == tokenizer("Out, out")["input_ids"]
    assert len(list(tmp_path.iterdir())) == 2
    corpus._tokens.cache_clear()


def test_the_tokenizer_loses_nothing() -> None:
    tokenizer = corpus.ladder_tokenizer()
    text = corpus.texts("dev")[0][:5000]
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert max(ids) < corpus.VOCABULARY
    assert len(ids) < len(text) / 2


def test_passages_are_spread_over_the_text() -> None:
    ids = torch.arange(1000)
    rows = corpus.passages(ids, length=10, count=4)
    assert rows[:, 0].tolist() == [0, 330, 660, 990]
    with pytest.raises(ChimeraError, match="asked for 101 passages of 10 tokens, expected 1 to 100"):
        corpus.passages(ids, length=10, count=101)


def test_wrong_names_are_told_what_there_is() -> None:
    with pytest.raises(UnknownName, match=r"neox-2m.*neox-0.3m"):
        ladder.load("neox-2m")
    with pytest.raises(UnknownName, match=r"valid.*train"):
        corpus.texts("valid")
    with pytest.raises(UnknownName, match=r"best.*matched-loss"):
        ladder.weights("neox-1m", "best")


def test_a_checkpoint_that_is_not_there_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIMERA_DATA", str(tmp_path))
    with pytest.raises(AssetMissing, match="chimera prion train --model neox-8m"):
        ladder.load("neox-8m")


def test_an_interrupted_training_ends_as_one_without_interruption(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    span = ladder_training.BATCH * ladder_training.LENGTH
    text = corpus.tokens("train", corpus.ladder_tokenizer())
    whole = ladder_training._Training("neox-0.3m", 5, tmp_path)
    for _ in range(6):
        whole.advance(text)
    first = ladder_training._Training("neox-0.3m", 5, tmp_path)
    for _ in range(3):
        first.advance(text)
    first.save()
    second = ladder_training._Training("neox-0.3m", 5, tmp_path)
    second.resume()
    assert second.step == 3
    for _ in range(3):
        second.advance(text)
    for one, two in zip(whole.average.parameters(), second.average.parameters(), strict=True):
        assert torch.equal(one, two)
    assert whole.step * span == 6 * 2048


def test_the_state_of_another_seed_is_not_gone_on_with(tmp_path: Path) -> None:
    ladder_training._Training("neox-0.3m", 5, tmp_path).save()
    with pytest.raises(ChimeraError, match=r"neox-0.3m.training is of .* seed 5, expected 7; .* delete the file"):
        ladder_training.train("neox-0.3m", folder=tmp_path, seed=7, most_steps=16, progress=False)


def test_training_leaves_both_checkpoints_with_their_cards(tmp_path: Path) -> None:
    span = ladder_training.BATCH * ladder_training.LENGTH
    made = ladder_training.train(
        "neox-0.3m", folder=tmp_path, seed=2, target=6.9, tokens=16 * span, most_steps=64, progress=False
    )
    assert {one.facts["checkpoint"] for one in made} == set(ladder.CHECKPOINTS)
    facts = {one.facts["checkpoint"]: one.facts for one in made}
    assert facts["matched-tokens"]["tokens"] == 16 * span
    assert facts["matched-loss"]["dev_loss"] <= 6.9
    assert facts["matched-loss"]["command"] == "chimera prion train --model neox-0.3m --seed 2"
    assert not (tmp_path / "neox-0.3m.training").exists()
    stored = safetensors.torch.load_file(made[0].file)
    assert {one.dtype for one in stored.values()} == {torch.float16}


def test_a_target_out_of_reach_says_where_it_got(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match=r"neox-0.3m is at .* after 16 steps, expected 0.1"):
        ladder_training.train("neox-0.3m", folder=tmp_path, target=0.1, most_steps=16, progress=False)
    assert (tmp_path / "neox-0.3m.training").exists()
