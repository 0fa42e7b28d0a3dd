"""CIFAR-10 read from its three published forms, in miniature, and the real one where it has been fetched."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from chimera_lib import assets, cifar10
from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from pathlib import Path

N = 20  # images per file of the miniature
NAMES = [*cifar10.BATCHES, "test_batch"]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """File name -> images (N, 32, 32, 3) and labels (N,), no two files alike."""
    monkeypatch.setattr(cifar10, "PER_FILE", N)
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 256, (N, 32, 32, 3), np.uint8), rng.integers(0, 10, N)) for name in NAMES}


def npm(folder: Path, batches: dict) -> None:
    for name, (images, _) in batches.items():
        Image.fromarray(images.reshape(N, 1024, 3)).save(folder / f"{name}.png")
    train = [int(label) for name in cifar10.BATCHES for label in batches[name][1]]
    (folder / "train_lables.json").write_text(json.dumps(train))
    (folder / "test_lables.json").write_text(json.dumps(batches["test_batch"][1].tolist()))


def planes(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(N, -1)


def binary(folder: Path, batches: dict) -> None:
    for name, (images, labels) in batches.items():
        records = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def text(content: bytes) -> bytes:
    """A Python 2 string in pickle protocol 2."""
    return (b"U" + bytes([len(content)]) if len(content) < 256 else b"T" + struct.pack("<i", len(content))) + content


def pickled(folder: Path, batches: dict, extra: bytes = b"") -> None:
    """The official files' layout: a dict of batch_label, labels, data (an array's state) and filenames."""
    for name, (images, labels) in batches.items():
        numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
        dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R"
        shape = b"M" + struct.pack("<H", N) + b"M" + struct.pack("<H", 3072) + b"\x86"
        array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\0\x85" + text(b"b") + b"\x87R"
        state = b"(K\1" + shape + dtype + b"\x89" + text(planes(images).tobytes()) + b"tb"
        items = text(b"batch_label") + text(b"a batch") + text(b"labels") + numbers + text(b"data") + array + state
        filenames = text(b"filenames") + b"](" + text(b"a.png") + text(b"b.png") + b"e"
        (folder / name).write_bytes(b"\x80\x02}(" + extra + items + filenames + b"u.")


FORMS = {"npm": npm, "binary": binary, "pickled": pickled}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_arrays(form: str, batches: dict, tmp_path: Path) -> None:
    source = tmp_path / "cache" / "some" / "folder"
    source.mkdir(parents=True)
    FORMS[form](source, batches)
    cifar10.convert(tmp_path / "cache", tmp_path / "out")
    got = {name: np.load(tmp_path / "out" / f"{name}.npy") for name in cifar10.ARRAYS}
    assert np.array_equal(got["train_images"], np.concatenate([batches[name][0] for name in cifar10.BATCHES]))
    assert np.array_equal(got["train_labels"], np.concatenate([batches[name][1] for name in cifar10.BATCHES]))
    assert np.array_equal(got["test_images"], batches["test_batch"][0])
    assert np.array_equal(got["test_labels"], batches["test_batch"][1])
    assert {got[f"{split}_labels"].dtype for split in ("train", "test")} == {np.dtype("int64")}


def test_instructions_in_a_pickle_are_not_run(batches: dict, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    pickled(tmp_path, batches, extra=text(b"x") + b"cos\nmkdir\n" + text(str(trap).encode()) + b"\x85R")
    with (tmp_path / "test_batch").open("rb") as file, contextlib.suppress(Exception):  # whatever else it meets
        pickle.load(file, encoding="latin1")  # noqa: S301  (shows that the trap works: what the reader must not do)
    assert trap.exists()
    trap.rmdir()
    cifar10.convert(tmp_path, tmp_path / "out")
    assert not trap.exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_file_is_named(form: str, batches: dict, tmp_path: Path) -> None:
    FORMS[form](tmp_path, batches)
    gone = next(tmp_path.glob("data_batch_4*"))
    gone.unlink()
    with pytest.raises(ChimeraError, match=f"{gone.name} is missing"):
        cifar10.convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(("form", "says"), [("npm", "damaged"), ("binary", "bytes, expected"), ("pickled", "damaged")])
def test_a_cut_file_is_refused(form: str, says: str, batches: dict, tmp_path: Path) -> None:
    FORMS[form](tmp_path, batches)
    file = next(tmp_path.glob("data_batch_4*"))
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(ChimeraError, match=says):
        cifar10.convert(tmp_path, tmp_path / "out")


def test_a_picture_of_another_shape_is_refused(batches: dict, tmp_path: Path) -> None:
    npm(tmp_path, batches)
    Image.new("RGB", (1024, N + 1)).save(tmp_path / "data_batch_2.png")
    with pytest.raises(ChimeraError, match=r"data_batch_2\.png is RGB \(1024, 21\)"):
        cifar10.convert(tmp_path, tmp_path / "out")


def test_labels_of_another_number_are_refused(batches: dict, tmp_path: Path) -> None:
    npm(tmp_path, batches)
    (tmp_path / "train_lables.json").write_text("[1, 2, 3]")
    with pytest.raises(ChimeraError, match="expected 100"):
        cifar10.convert(tmp_path, tmp_path / "out")


def test_a_pickle_of_something_else_is_refused(batches: dict, tmp_path: Path) -> None:
    pickled(tmp_path, batches)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({"labels": [1, 2], "data": b"123"}, protocol=2))
    with pytest.raises(ChimeraError, match="data_batch_3 is not a CIFAR-10 file; use the official binary version"):
        cifar10.convert(tmp_path, tmp_path / "out")


def test_a_folder_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="holds no CIFAR-10"):
        cifar10.convert(tmp_path, tmp_path / "out")


@pytest.fixture(scope="module")
def real() -> dict[str, np.ndarray]:
    if not assets.present("cifar10"):
        pytest.skip("cifar10 is not in the cache")
    return cifar10.load()


def test_the_real_one(real: dict[str, np.ndarray]) -> None:
    assert {name: (array.shape, array.dtype.name) for name, array in real.items()} == {
        "train_images": ((50_000, 32, 32, 3), "uint8"),
        "train_labels": ((50_000,), "int64"),
        "test_images": ((10_000, 32, 32, 3), "uint8"),
        "test_labels": ((10_000,), "int64"),
    }
    assert np.bincount(real["train_labels"]).tolist() == [5000] * 10
    assert np.bincount(real["test_labels"]).tolist() == [1000] * 10
    # The first ones, as the literature shows them: frog, truck, truck, deer; cat, ship, ship, airplane.
    assert [cifar10.CLASSES[i] for i in real["train_labels"][:4]] == ["frog", "truck", "truck", "deer"]
    assert [cifar10.CLASSES[i] for i in real["test_labels"][:4]] == ["cat", "ship", "ship", "airplane"]
    # Published channel means over the training set, in units of 1/255: 125.3, 123.0, 113.9.
    means = [real["train_images"][..., channel].mean(dtype=np.float64) for channel in range(3)]
    assert np.allclose(means, [125.3, 123.0, 113.9], atol=0.06)


def test_changing_an_array_changes_nothing_on_the_disk(real: dict[str, np.ndarray]) -> None:
    kept = int(real["test_labels"][0])
    real["test_labels"][0] = 9 - kept
    assert int(cifar10.load()["test_labels"][0]) == kept
    real["test_labels"][0] = kept
