"""Models by name, folder and hub name; whole, with adapters, quantised; and what is said where there is none."""

from __future__ import annotations

import json
import shutil
import socket
import time
from typing import TYPE_CHECKING

import huggingface_hub
import pytest
import safetensors.torch
import torch
from transformers import AutoModelForCausalLM

from chimera_lib.errors import AssetMissing, ChimeraError, OutOfMemory, UnknownName
from chimera_lib.prion import batches, corpus, ladder, lora, models, pythia, quantization
from tests.prion import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module", params=["gpt_neox", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("neox"), "gpt_neox")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.delenv(pythia.FOLDER, raising=False)


def step(model: torch.nn.Module) -> None:
    tokens = torch.randint(checkpoints.VOCABULARY, (2, 8), generator=torch.Generator().manual_seed(0))
    batches.loss(model.train(), batches.Batch(tokens)).backward()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_folder_is_loaded_whole(folder: Path, precision: str) -> None:
    loaded = models.load(str(folder), precision=precision)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {models.TYPES[precision]}
    assert loaded.model.config._attn_implementation == "eager" and not loaded.model.training
    assert loaded.parameters == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert (loaded.precision, loaded.tuning, loaded.name) == (precision, "full", str(folder))
    assert loaded.tokenizer("word5 word7")["input_ids"] == [5, 7]
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, saved[name].to(value.dtype)), name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "8bit", "4bit"])
def test_adapters_train_and_nothing_else(folder: Path, precision: str, checkpointing: bool) -> None:
    loaded = models.load(str(folder), precision=precision, tuning="lora", lora_rank=4, checkpointing=checkpointing)
    trained = {name: value for name, value in loaded.model.named_parameters() if value.requires_grad}
    targets = lora.TARGETS[loaded.model.config.model_type]
    assert all("lora_" in name for name in trained) and len(trained) == 2 * 2 * len(targets)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == set(targets)
    assert {min(value.shape) for value in trained.values()} == {4}
    assert loaded.parameters == models.load(str(folder)).parameters
    step(loaded.model)
    assert all(value.grad is not None for value in trained.values())
    assert any(bool(value.grad.any()) for value in trained.values() if value.grad is not None)


def test_adapters_come_from_the_seed(neox: Path) -> None:
    def first(seed: int) -> torch.Tensor:
        drawn = models.load(str(neox), tuning="lora", seed=seed).model
        return next(value for name, value in drawn.named_parameters() if "lora_A" in name)

    before = torch.random.get_rng_state()
    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_checkpointing_gives_the_same_gradients(folder: Path) -> None:
    plain, ours = models.load(str(folder)).model, models.load(str(folder), checkpointing=True).model
    calls: list[int] = []
    ours.base_model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    step(plain)
    step(ours)
    assert len(calls) == 2  # once forwards, once more backwards
    for wanted, found in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


@pytest.mark.parametrize("precision", ["fp32", "4bit"])
def test_the_ladder_is_loaded_with_its_tokenizer(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    made = ladder.new("neox-0.3m", seed=3)
    asked = []

    def load(name: str, checkpoint: str) -> tuple[object, object]:
        asked.append((name, checkpoint))
        return made, corpus.ladder_tokenizer()

    monkeypatch.setattr(ladder, "load", load)
    tuning = "full" if precision == "fp32" else "lora"
    loaded = models.load("neox-0.3m", precision=precision, tuning=tuning, checkpoint="matched-tokens")
    assert asked == [("neox-0.3m", "matched-tokens")] and loaded.parameters == made.num_parameters()
    assert loaded.tokenizer("To be")["input_ids"] == corpus.ladder_tokenizer()("To be")["input_ids"]
    if precision == "fp32":
        assert torch.equal(loaded.model.lm_head.weight, made.lm_head.weight)


@pytest.mark.parametrize("name", ["70m", "pythia-70m", "EleutherAI/pythia-70m"])
@pytest.mark.parametrize("inside", [True, False])
def test_pythia_from_a_folder(
    neox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, inside: bool
) -> None:
    place = shutil.copytree(neox, tmp_path / ("pythia-70m" if inside else "weights"))
    monkeypatch.setenv(pythia.FOLDER, str(tmp_path if inside else place))
    monkeypatch.setitem(pythia.SIZES, "70m", pythia.Shape(2, 64, 4, 0))
    assert models.load(name).model.config.hidden_size == 64
    with pytest.raises(ChimeraError, match=r"holds (no|another model than) pythia-160m"):
        models.load("160m")


def test_pythia_as_the_hub_stores_it(neox: Path, tmp_path: Path) -> None:
    """The published files call the output layer embed_out and hold masks that are computed nowadays; weights fp16."""
    place = shutil.copytree(neox, tmp_path / "hub")
    stored = safetensors.torch.load_file(place / "model.safetensors")
    published = {name: value.half() for name, value in stored.items()}
    assert "embed_out.weight" in published
    published |= {f"gpt_neox.layers.{n}.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool) for n in range(2)}
    published |= {f"gpt_neox.layers.{n}.attention.rotary_emb.inv_freq": torch.ones(2) for n in range(2)}
    safetensors.torch.save_file(published, place / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((place / "config.json").read_text())
    rope = content.pop("rope_parameters")
    content |= {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": 10000, "torch_dtype": "float16"}
    (place / "config.json").write_text(json.dumps(content))
    loaded = models.load(str(place)).model
    assert torch.equal(loaded.lm_head.weight, stored["embed_out.weight"].half().float())
    assert loaded.lm_head.weight.dtype == torch.float32


def test_the_six_sizes_have_the_parameters_of_the_model_cards() -> None:
    for size, shape in pythia.SIZES.items():
        config = pythia.config(size)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        around = 2 * config.vocab_size * config.hidden_size  # both embeddings
        assert sum(value.numel() for value in model.parameters()) - around == shape.inner, size


def test_without_a_hub_the_message_names_the_model_and_the_way_out(offline: None) -> None:
    with pytest.raises(AssetMissing) as caught:
        models.load("410m")
    message = str(caught.value)
    assert message.startswith("model '410m' is not here: CHIMERA_PYTHIA is not set") and "\n" not in message
    assert "switched off (HF_HUB_OFFLINE)" in message and "EleutherAI/pythia-410m" in message


def test_a_hub_that_does_not_answer_costs_seconds(monkeypatch: pytest.MonkeyPatch, offline: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)
        monkeypatch.setattr(pythia, "PATIENCE", 0.2)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        started = time.monotonic()
        with pytest.raises(AssetMissing, match=r"does not answer: .*Timeout"):
            models.load("70m")
        assert time.monotonic() - started < 20


def test_what_is_wrong_is_named(neox: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown model 'neox-2m'.*neox-0.3m, .*2.8b; or name a folder"):
        models.load("neox-2m")
    with pytest.raises(ChimeraError, match=r"there is no folder .*/none; name a model"):
        models.load(str(tmp_path / "none"))
    with pytest.raises(ChimeraError, match=r"holds no config.json, no tokenizer_config.json, no .*weights in pickles"):
        models.load(str(tmp_path))
    with pytest.raises(UnknownName, match="unknown precision 'int3'"):
        models.load(str(neox), precision="int3")
    with pytest.raises(UnknownName, match="unknown tuning 'qlora'"):
        models.load(str(neox), tuning="qlora")
    with pytest.raises(
        ChimeraError, match=r"precision 4bit with tuning full: .*no gradient to follow; take tuning lora"
    ):
        models.load(str(neox), precision="4bit")
    with pytest.raises(ChimeraError, match="LoRA of rank 0"):
        models.load(str(neox), tuning="lora", lora_rank=0)
    with pytest.raises(UnknownName, match="unknown architecture for LoRA 'bert'"):
        lora.targets("bert")


def test_a_damaged_folder_is_one_line(neox: Path, tmp_path: Path) -> None:
    place = shutil.copytree(neox, tmp_path / "damaged")
    content = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(content | {"model_type": "nosuch", "architectures": ["NoSuch"]}))
    with pytest.raises(ChimeraError, match="cannot be read as a language model") as caught:
        models.load(str(place))
    assert "\n" not in str(caught.value)


def test_too_little_memory_is_named(neox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(models, "_read", full)
    with pytest.raises(OutOfMemory, match=r"loading .* in bf16 ran out of memory"):
        models.load(str(neox), precision="bf16")


def test_fp16_whole_becomes_nan_with_adamw_as_the_docstring_says(neox: Path) -> None:
    model = models.load(str(neox), precision="fp16").model
    stepper = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step(model)
    stepper.step()
    assert not all(bool(value.isfinite().all()) for value in model.parameters())


def test_parameters_of_four_bits_are_counted_whole(neox: Path) -> None:
    loaded = models.load(str(neox), precision="4bit", tuning="lora")
    assert quantization.parameters(loaded.model) > loaded.parameters == models.load(str(neox)).parameters
