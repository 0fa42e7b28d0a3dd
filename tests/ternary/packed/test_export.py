"""A packed model goes through a file unchanged; a file that is damaged, foreign or of another model is refused."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from chimera_lib.efficientnet import EfficientNetLite0
from chimera_lib.ternary.convert import convert
from chimera_lib.ternary.packed import matvec
from chimera_lib.ternary.packed.export import BadPackedFile, checksum, export, load
from chimera_lib.ternary.packed.layers import NothingToPack, PackedBitLinear, pack
from chimera_lib.ternary.resnet import ChimeraResNet20

if TYPE_CHECKING:
    from pathlib import Path

CODECS = ("2bit", "base3")


@pytest.fixture(autouse=True)
def eager() -> Any:
    matvec.use_eager("these tests are of files")
    yield
    matvec.use_eager()


def small(mode: str = "ttq", seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 2))
    return convert(plain, mode=mode, skip=["4"]).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    export(pack(small()), path)
    return path


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("mode", ["chimera", "ttq"])
def test_a_resnet_goes_round_into_a_plain_a_ternary_and_a_packed_skeleton(
    codec: str, mode: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = ChimeraResNet20(mode)
    model(torch.randn(8, 3, 32, 32))
    packed = pack(model, codec=codec)
    x = torch.randn(3, 3, 32, 32)
    size = export(packed, tmp_path / "resnet.safetensors")
    assert size == (tmp_path / "resnet.safetensors").stat().st_size < 4 * 270_000 / 8
    skeletons = [lambda: ChimeraResNet20("fp32_baseline"), ChimeraResNet20("lsq"), pack(ChimeraResNet20("chimera"))]
    for skeleton in skeletons:
        loaded = load(tmp_path / "resnet.safetensors", skeleton)
        assert not loaded.training
        assert torch.equal(loaded(x), packed(x))


def test_efficientnet_goes_round_with_convolutions_of_its_own_padding(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = convert(EfficientNetLite0(32))
    x = torch.randn(4, 3, 32, 32)
    model(x)
    packed = pack(model.eval(), codec="base3")
    with torch.no_grad():
        difference = (packed(x) - model(x)).abs().max() / model(x).abs().max()
    assert float(difference) < 1e-5
    path = tmp_path / "efficientnet.safetensors"
    assert export(packed, path) < 4 * sum(p.numel() for p in model.parameters()) / 13
    assert torch.equal(load(path, lambda: EfficientNetLite0(32))(x), packed(x))


def test_the_skeleton_stays_as_it_is(file: Path) -> None:
    skeleton = small(seed=7)
    before = {name: tensor.clone() for name, tensor in skeleton.state_dict().items()}
    loaded = load(file, skeleton)
    torch.testing.assert_close(dict(skeleton.state_dict()), before, rtol=0, atol=0, equal_nan=True)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded(x), pack(small())(x)) and not torch.equal(loaded(x), skeleton(x))


def test_a_single_layer_is_a_model_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    packed = pack(convert(nn.Linear(6, 4)))
    export(packed, tmp_path / "one.safetensors")
    loaded = load(tmp_path / "one.safetensors", nn.Linear(6, 4))
    assert isinstance(loaded, PackedBitLinear)
    x = torch.randn(2, 6)
    assert torch.equal(loaded(x), packed(x))


class Tied(nn.Module):
    """An embedding whose weight is the output layer's, and one ternary layer that stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.first = nn.Linear(8, 8)
        self.second = self.first
        self.lm_head = nn.Linear(8, 11, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.second(self.first(self.embedding(tokens))))


def test_tied_weights_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    packed = pack(convert(Tied()))
    path = tmp_path / "tied.safetensors"
    assert export(packed, path) < 2 * 4 * 11 * 8 + 2 * 8 * 4 + 1500  # header included: the embedding is there once
    loaded = load(path, Tied)
    assert loaded.lm_head.weight is loaded.embedding.weight
    assert loaded.first is loaded.second
    tokens = torch.arange(11)[None]
    assert torch.equal(loaded(tokens), packed(tokens))


@pytest.mark.filterwarnings("default")  # of transformers itself
def test_a_tiny_llama_is_packed_written_and_read(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=64, num_key_value_heads=2, tie_word_embeddings=True, **sizes)
    model = convert(LlamaForCausalLM(config)).eval()
    packed = pack(model)
    assert sum(isinstance(one, PackedBitLinear) for one in packed.modules()) == 14
    export(packed, tmp_path / "llama.safetensors")
    loaded = load(tmp_path / "llama.safetensors", lambda: LlamaForCausalLM(config))
    tokens = torch.randint(0, 64, (2, 9))
    with torch.no_grad():
        logits = loaded(tokens).logits
        assert torch.equal(logits, packed(tokens).logits)
        expected = model(tokens).logits
        # A last bit can move an activation by one of its 127 levels, where layers follow one another.
        assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-2
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        assert torch.equal(loaded.generate(tokens, **options), model.generate(tokens, **options))


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_refused_wherever_it_ends(file: Path, data: st.DataObject) -> None:
    whole = file.read_bytes()
    cut = file.with_name("cut.safetensors")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadPackedFile, match=r"cut\.safetensors is no whole safetensors file"):
        load(cut, small)


@given(st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_one_other_byte_is_refused_wherever_it_is(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    other = file.with_name("other.safetensors")
    other.write_bytes(content)
    try:
        loaded = load(other, small)
    except BadPackedFile as error:
        assert str(error).startswith(str(other))
    else:  # a space of the header's JSON may become another kind of space
        x = torch.randn(2, 3, 4, 4)
        assert torch.equal(loaded(x), pack(small())(x))


def metadata_of(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]


def test_the_metadata_say_what_the_file_is(file: Path) -> None:
    metadata = metadata_of(file)
    assert metadata["format"] == "chimera-ternary-packed" and metadata["version"] == "1"
    assert json.loads(metadata["layers"])["3"] == {
        "kind": "linear",
        "codec": "2bit",
        "shape": [5, 16],
        "scale_shape": [],
        "scales": 2,
        "dtype": "float32",
        "activation": "int8",
    }


def test_foreign_files_and_other_versions_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(BadPackedFile, match="no file at"):
        load(tmp_path / "nothing.safetensors", small)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(BadPackedFile, match="is a safetensors file, but no packed model"):
        load(foreign, small)
    foreign.write_bytes(b"PK\x03\x04 a zip of pickles")
    with pytest.raises(BadPackedFile, match="is no whole safetensors file"):
        load(foreign, small)
    save_file({"weight": torch.zeros(3)}, foreign, {**metadata_of(file), "version": "2"})
    with pytest.raises(BadPackedFile, match="is of version 2, this reads 1"):
        load(foreign, small)
    save_file({"weight": torch.zeros(3)}, foreign, metadata_of(file))
    with pytest.raises(BadPackedFile, match="has been altered since it was written"):
        load(foreign, small)


def test_bytes_that_mean_nothing_are_refused_even_where_the_sum_is_right(tmp_path: Path) -> None:
    packed = pack(small(), codec="base3")
    path = tmp_path / "bad.safetensors"
    export(packed, path)
    metadata, tensors = metadata_of(path), dict(packed.state_dict())
    tensors["3.packed_base3"] = tensors["3.packed_base3"].clone()
    tensors["3.packed_base3"][2, 1] = 250
    metadata["sha256"] = checksum(metadata, tensors)
    save_file(tensors, path, metadata)
    with pytest.raises(BadPackedFile, match=r"3\.packed_base3: byte 250 is no code of five trits"):
        load(path, small)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("layers", "{", "does not describe its layers as export does"),
        ("layers", "[1]", "does not describe its layers as export does"),
        ("layers", '{"3": {"kind": "linear"}}', "does not describe its layers as export does"),
        ("tied", '{"0.bias": "nowhere"}', "ties a tensor to 'nowhere', which it does not hold"),
        ({"kind": "conv3d"}, None, "describes layer '3' as"),
        ({"codec": "4bit"}, None, "describes layer '3' as"),
        ({"shape": [5, -16]}, None, "describes layer '3' as"),
        ({"shape": [5, 16, 1]}, None, "describes layer '3' as"),
        ({"scale_shape": [10**9, 1]}, None, "describes layer '3' as"),
        ({"scales": 3}, None, "describes layer '3' as"),
        ({"dtype": "load"}, None, "describes layer '3' as"),
        ({"activation": "int4"}, None, "describes layer '3' as"),
    ],
)
def test_a_description_that_was_forged_is_refused_even_where_the_sum_is_right(
    tmp_path: Path, file: Path, key: str | dict[str, Any], value: str | None, said: str
) -> None:
    metadata, tensors = metadata_of(file), dict(pack(small()).state_dict())
    if isinstance(key, dict):
        layers = json.loads(metadata["layers"])
        layers["3"] |= key
        key, value = "layers", json.dumps(layers)
    assert value is not None
    metadata[key] = value
    metadata["sha256"] = checksum(metadata, tensors)
    forged = tmp_path / "forged.safetensors"
    save_file(tensors, forged, metadata)
    with pytest.raises(BadPackedFile) as refused:
        load(forged, small)
    assert said in str(refused.value) and str(forged) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_models_file_is_refused_in_one_line(file: Path) -> None:
    with pytest.raises(BadPackedFile) as refused:
        load(file, ChimeraResNet20("chimera"))
    assert str(file) in str(refused.value) and "\n" not in str(refused.value)


def test_a_skeleton_that_does_not_fit_is_refused(file: Path) -> None:
    def changed(place: int, layer: nn.Module) -> nn.Sequential:
        model = small()
        model[place] = layer
        return model

    with pytest.raises(BadPackedFile, match=r"Linear of weight \(5, 16\) called '3', which is \(6, 16\) in Sequential"):
        load(file, changed(3, nn.Linear(16, 6)))
    with pytest.raises(BadPackedFile, match=r"called '3', which is a ReLU"):
        load(file, changed(3, nn.ReLU()))
    with pytest.raises(BadPackedFile, match=r"called '3', Sequential nothing"):
        load(file, nn.Sequential(*list(small())[:3]))
    with pytest.raises(BadPackedFile, match=r"does not fit Sequential.* 4\.bias|does not fit Sequential.*\"4\.bias\""):
        load(file, changed(4, nn.Linear(5, 2, bias=False)))
    with pytest.raises(BadPackedFile, match=r"4\.bias is torch\.float32, the model's torch\.float64"):
        load(file, changed(4, nn.Linear(5, 2).double()))
    with torch.device("meta"), pytest.raises(BadPackedFile, match="is on the meta device"):
        load(file, nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5)))


def test_what_cannot_be_written_leaves_the_older_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        export(pack(small("chimera")), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_model_that_is_not_packed_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(NothingToPack, match=r"Sequential has no packed layer: export\(pack\(model\), path\)"):
        export(small(), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
