"""Files of weights: those that are read, and those that are refused by name before anything of them is used."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimera_lib.errors import AssetMissing, ChecksumMismatch, ChimeraError
from chimera_lib.provenance import weight_files

if TYPE_CHECKING:
    from pathlib import Path

TABLE = {"a": torch.arange(3000.0).view(3, 1000), "b": torch.tensor([1, 2])}
FEW = {"a": torch.arange(6.0), "b": torch.tensor([1])}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TABLE.keys() and all(torch.equal(found[key], TABLE[key]) for key in TABLE)


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_a_state_dict_is_one_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    if ending == ".safetensors":
        safetensors.torch.save_file(TABLE, path)
    else:
        torch.save(TABLE, path)
    (found,) = weight_files.read(path).items()
    assert found[0] == ""
    assert same(found[1])
    assert same(weight_files.read(str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest().upper())[""])


def test_the_older_format_of_torch_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    torch.save(TABLE, path, _use_new_zipfile_serialization=False)
    assert same(weight_files.read(path)[""])
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ChimeraError, match=r"old\.bin is truncated or damaged"):
        weight_files.read(path)


def test_tables_of_a_training_run_are_found_by_their_place(tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    optimizer = {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]}
    trainer = {"config": {"depth": 2}, "vae_local": TABLE, "var_wo_ddp": {"c": torch.zeros(1)}, "var_opt": optimizer}
    torch.save({"epoch": 3, "trainer": trainer, "args": {"seed": 1}}, path)
    found = weight_files.read(path)
    assert set(found) == {"trainer/vae_local", "trainer/var_wo_ddp"}
    assert same(found["trainer/vae_local"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str) -> None:
    assert same(weight_files.unwrapped({prefix + key: value for key, value in TABLE.items()}))


def test_a_prefix_that_not_all_keys_have_stays() -> None:
    keys = {"module.a": TABLE["a"], "b": TABLE["b"]}
    assert weight_files.unwrapped(keys).keys() == keys.keys()


class Command:
    """Unpickled carelessly, it would make a file."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("how", ["zip", "old", "pickle"])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, made = tmp_path / "model.bin", tmp_path / "made"
    content = {"a": TABLE["a"], "b": Command(str(made))}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ChimeraError, match=r"model\.bin holds .* could run code and is not loaded") as caught:
        weight_files.read(path)
    assert not made.exists()
    assert how == "pickle" or "posix.mkdir" in str(caught.value) or "nt.mkdir" in str(caught.value)


@pytest.mark.parametrize("content", [torch.nn.Linear(2, 2), {"a": TABLE, "args": argparse.Namespace(lr=1)}])
def test_other_objects_are_refused_by_name(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(ChimeraError, match=r"the Python object (torch\.nn\.modules\.linear\.Linear|argparse\.Names)"):
        weight_files.read(path)


@pytest.mark.parametrize("content", [{}, [TABLE["a"]], TABLE["a"], {"epoch": 1}, {"a": TABLE["a"], "epoch": 1}])
def test_a_file_without_a_table_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(ChimeraError, match="no table of tensors by name"):
        weight_files.read(path)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.999])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str, kept: float) -> None:
    path = tmp_path / f"model{ending}"
    if ending == ".pth":
        torch.save(TABLE, path)
    else:
        safetensors.torch.save_file(TABLE, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ChimeraError, match=r"is (truncated|damaged).*fetch it again"):
        weight_files.read(path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(TABLE, path)
    content = bytearray(path.read_bytes())
    place = content.find(TABLE["a"].numpy().tobytes())
    content[place + 4001] ^= 1
    path.write_bytes(content)
    assert not same(torch.load(path, weights_only=True))  # torch itself says nothing
    with pytest.raises(ChimeraError, match=r"damaged: the content of its member .*/data/0 has another checksum"):
        weight_files.read(path)


def test_another_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(TABLE, path)
    with pytest.raises(ChecksumMismatch, match=r"has the sha256 \w{64}; expected 00ff"):
        weight_files.read(path, sha256="00ff")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "is a web page"),
        (b"\x00" * 100, r"model\."),
        (b"not weights at all", r"model\."),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, ending: str, content: bytes, words: str) -> None:
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(ChimeraError, match=words):
        weight_files.read(path)


def test_missing_files_and_other_endings_are_named(tmp_path: Path) -> None:
    with pytest.raises(AssetMissing, match=r"no weights at .*model\.pth"):
        weight_files.read(tmp_path / "model.pth")
    with pytest.raises(AssetMissing, match="expected a file"):
        weight_files.read(tmp_path)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ChimeraError, match=r"ends in '\.pkl'; expected one of \.pth"):
        weight_files.read(tmp_path / "model.pkl")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["zip.pth", "old.bin", "own.safetensors"]))
def test_no_damage_is_met_with_anything_but_a_refusal(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / kind
    if kind.startswith("own"):
        safetensors.torch.save_file(FEW, path)
    else:
        torch.save(FEW, path, _use_new_zipfile_serialization=kind.startswith("zip"))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = weight_files.read(path)
    except ChimeraError:
        return
    # The zip format has checksums: what is read from it is what was written, but for names of members.
    assert kind != "zip.pth" or all(torch.equal(found[""][key], FEW[key]) for key in FEW)
