"""Checkpoints against models: manifests, reports of differences, and loading that accepts none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import safetensors.torch
import torch
from torch import nn

from chimera_lib.errors import ChimeraError
from chimera_lib.provenance import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


class Small(nn.Module):
    """A layer, a table of integers, and, if asked, a buffer that no checkpoint holds."""

    def __init__(self, width: int = 3, *, hidden: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(2, width)
        self.register_buffer("mask", torch.full((2,), -torch.inf))
        self.register_buffer("count", torch.zeros(2, dtype=torch.long))
        if hidden:
            self.register_buffer("hidden", torch.ones(2), persistent=False)


def saved(folder: Path, model: nn.Module, **changes: torch.Tensor | None) -> Path:
    """The model's checkpoint with some of its tensors replaced, or left out where None; `_` stands for a dot."""
    table = {key.replace(".", "_"): (key, value) for key, value in model.state_dict().items()}
    for name, value in changes.items():
        table[name] = (table[name][0] if name in table else name, value)  # type: ignore[assignment]
    torch.save({key: value for key, value in table.values() if value is not None}, folder / "model.pth")
    return folder / "model.pth"


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_manifest_and_fingerprint() -> None:
    table = checkpoints.manifest(Small())
    assert table == {
        "layer.weight": ((3, 2), "float32"),
        "layer.bias": ((3,), "float32"),
        "mask": ((2,), "float32"),
        "count": ((2,), "int64"),
    }
    with torch.device("meta"):
        assert checkpoints.manifest(Small()) == table
    assert checkpoints.manifest(Small().state_dict()) == table
    assert checkpoints.fingerprint(dict(reversed(table.items()))) == checkpoints.fingerprint(table)
    assert checkpoints.fingerprint(checkpoints.manifest(Small().half())) != checkpoints.fingerprint(table)


def test_a_report_names_every_kind_of_difference() -> None:
    expected = checkpoints.manifest(Small())
    found = {**expected, "layer.weight": ((2, 3), "float32"), "count": ((2,), "float32"), "more": ((), "int64")}
    del found["layer.bias"]
    report = checkpoints.compare(found, expected)
    assert (report.missing, report.surplus) == (["layer.bias"], ["more"])
    assert report.misshapen == ["layer.weight: (2, 3), expected (3, 2)"]
    assert report.mistyped == ["count: float32, expected int64"]
    assert not report.fits
    assert str(report) == (
        "1 missing (layer.bias); 1 surplus (more); 1 misshapen (layer.weight: (2, 3), expected (3, 2)); "
        "1 mistyped (count: float32, expected int64)"
    )
    assert checkpoints.compare(expected, expected).fits
    assert checkpoints.compare(checkpoints.manifest(Small().half()), expected).fits
    many = checkpoints.compare({}, {f"k{i}": ((), "int64") for i in range(5)})
    assert str(many) == "5 missing (k0, k1, k2, and 2 more)"


def test_a_fitting_file_is_loaded(tmp_path: Path) -> None:
    source, target = Small(), Small()
    assert checkpoints.load(target, saved(tmp_path, source)) is target
    assert equal(source, target)


def test_a_model_without_memory_gets_its_own(tmp_path: Path) -> None:
    source, path = Small(), tmp_path / "model.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    with torch.device("meta"):
        target = Small().bfloat16()
    checkpoints.load(target, path)
    assert equal(source.bfloat16(), target)
    assert target.layer.weight.dtype == torch.bfloat16
    assert target.layer.weight.requires_grad


def test_what_is_loaded_does_not_follow_the_file(tmp_path: Path) -> None:
    source = Small()
    path = saved(tmp_path, source)
    with torch.device("meta"):
        target = Small()
    checkpoints.load(target, path)
    path.write_bytes(bytes(path.stat().st_size))
    assert equal(source, target)


def test_a_tensor_that_would_stay_without_memory_is_named(tmp_path: Path) -> None:
    with torch.device("meta"):
        target = Small(hidden=True)
    with pytest.raises(ChimeraError, match="has hidden on the meta device and in no checkpoint"):
        checkpoints.load(target, saved(tmp_path, Small()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_bias": None}, r"1 missing \(layer\.bias\)"),
        ({"extra": torch.zeros(1)}, r"1 surplus \(extra\)"),
        ({"layer_weight": torch.zeros(2, 3)}, r"1 misshapen \(layer\.weight: \(2, 3\), expected \(3, 2\)\)"),
        ({"count": torch.zeros(2)}, r"1 mistyped \(count: float32, expected int64\)"),
        ({"layer_bias": torch.tensor([0.0, torch.nan, 0.0])}, r"not finite \(layer\.bias\)"),
    ],
)
def test_any_difference_is_refused_and_leaves_the_model_alone(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], words: str
) -> None:
    target = Small()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ChimeraError, match=words):
        checkpoints.load(target, saved(tmp_path, Small(), **changes))
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_the_part_that_fits_is_chosen(tmp_path: Path) -> None:
    source, path = Small(), tmp_path / "run.pth"
    torch.save({"trainer": {"vae": Small(4).state_dict(), "var": source.state_dict()}, "epoch": 1}, path)
    assert equal(checkpoints.load(Small(), path), source)
    assert equal(checkpoints.load(Small(), path, part="trainer/var"), source)
    with pytest.raises(ChimeraError, match=r"2 misshapen"):
        checkpoints.load(Small(), path, part="trainer/vae")
    with pytest.raises(ChimeraError, match=r"has no part 'var'; it has 'trainer/vae', 'trainer/var'"):
        checkpoints.load(Small(), path, part="var")


def test_of_several_that_fit_one_has_to_be_named(tmp_path: Path) -> None:
    source, other, path = Small(), Small(), tmp_path / "run.pth"
    torch.save({"model": source.state_dict(), "ema": other.state_dict()}, path)
    with pytest.raises(ChimeraError, match="several parts that fit: 'model', 'ema'; name one"):
        checkpoints.load(Small(), path)
    assert equal(checkpoints.load(Small(), path, part="ema"), other)


def test_keys_of_a_wrapped_model_are_those_of_the_model(tmp_path: Path) -> None:
    source = Small()
    torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / "ddp.bin")
    assert equal(checkpoints.load(Small(), tmp_path / "ddp.bin"), source)
