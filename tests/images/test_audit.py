"""The audit as a library: what is read, measured, estimated and searched for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chimera_lib.errors import BackendDied, BackendUnavailable, BadImage, ChimeraError, UnknownName
from chimera_lib.images import audit
from chimera_lib.images.audit import report
from chimera_lib.images.backends import equivalence, registry
from chimera_lib.images.network import Network
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.png import png_bytes
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget

PAIR = ("openblas", "blis")
SHAPE = (3, 32, 32)


@pytest.fixture
def folder(tmp_path, pictures):
    """A folder of six pictures, two of them a level down."""
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    for number, image in enumerate(pictures[:6]):
        (root / ("deep" if number > 3 else "") / f"{number}.png").write_bytes(png_bytes(image))
    return root


def test_a_folder_is_read_in_the_order_of_names_to_the_byte(folder, pictures):
    found = audit.folder(folder, SHAPE)
    assert found.names == ["0.png", "1.png", "2.png", "3.png", "deep/4.png", "deep/5.png"]
    ((names, images),) = found.chunks()
    assert names == found.names
    np.testing.assert_array_equal(images, pictures[:6])


def test_what_cannot_be_read_is_skipped_by_name(folder, pictures):
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:900])
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("ignored")
    Image.fromarray(np.full((32, 32), 40000, np.uint16)).save(folder / "deep16.png")
    Image.fromarray(pictures[0]).convert("L").save(folder / "grey.png")
    found = audit.folder(folder, SHAPE)
    names = [name for each, _ in found.chunks() for name in each]
    assert set(found.skipped) == {"cut.png", "text.jpg", "deep16.png"}
    assert "16" in found.skipped["deep16.png"] and "damaged" in found.skipped["cut.png"]
    assert len(names) == 7 and found.converted == {"grey.png": "grey"}


def test_other_sizes_are_refused_and_fitted_on_request(folder):
    Image.new("RGB", (64, 40), (9, 8, 7)).save(folder / "1 wide.png")
    with pytest.raises(BadImage, match=r"1 wide.png: 64x40 pixels; the network takes 32x32 \(1 of 7.*--resize"):
        audit.folder(folder, SHAPE)
    found = audit.folder(folder, SHAPE, resize=True)
    assert found.load("1 wide.png").shape == (32, 32, 3)
    assert (found.load("1 wide.png") == [9, 8, 7]).all()


def test_an_empty_folder_and_none_are_refused(tmp_path):
    with pytest.raises(ChimeraError, match="no image in it"):
        audit.folder(tmp_path, SHAPE)
    with pytest.raises(ChimeraError, match="no such folder"):
        audit.folder(tmp_path / "none", SHAPE)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(ChimeraError, match=r"none of 1 images can be read; the first, a\.png"):
        audit.folder(tmp_path, SHAPE)


def test_the_output_folder_is_no_input(folder):
    assert len(audit.folder(folder, SHAPE, without=folder / "deep")) == 4
    assert len(audit.folder(folder, SHAPE, limit=3)) == 3


def test_agreement_is_measured(small_network, pictures, oracle):
    found = audit.audit(small_network, pictures, PAIR)
    verdict = oracle(pictures)
    np.testing.assert_array_equal(found.predictions, verdict.predictions)
    assert not found.conflict.any() and found.duplicates == 0
    mean = np.sort(verdict.logits.astype(np.float64).mean(0), axis=1)
    np.testing.assert_allclose(found.margins, mean[:, -1] - mean[:, -2], atol=1e-12)
    assert 0 < found.noise < 1e-3 and (found.margins > found.noise).all()
    assert found.bit_classes == {"openblas": 1, "blis": 2}
    assert found.interval == pytest.approx((0, 1 - 0.025 ** (1 / 12)))


def test_a_conflict_and_a_duplicate_are_found(small_network, small_model, pictures, oracle):
    chimera = lattice.search(small_model, pictures[0], oracle, Budget(), 0).chimera
    found = audit.audit(small_network, np.stack([chimera, pictures[1], chimera]), PAIR)
    assert found.conflict.tolist() == [True, False, True] and found.duplicates == 1
    assert found.confirmed == {"image 0", "image 2"}
    assert found.margins[0] < found.spreads[0], "zero lies between the two gaps"
    assert found.nearest(5) == [1]


def test_backends_of_equal_bits_have_no_noise(small_network, pictures):
    twins = [replace(registry.get("openblas"), name=name) for name in ("one", "two")]
    found = audit.audit(small_network, np.concatenate([pictures, pictures + np.uint8(1)]), twins)
    assert found.bit_classes == {"one": 1, "two": 1} and found.noise == 0 and not len(found.pairwise())
    assert found.extrapolated.rate == 0 and found.within() == {1: 0, 10: 0, 100: 0}
    described = report.describe(found, audit.Stack(pictures))
    assert described["verdict"] == "These 2 backends give the same bits on all 24 images: nothing here can disagree."


def test_a_search_makes_conflicts_and_confirms_them(small_network, pictures, oracle):
    found = audit.audit(small_network, pictures, PAIR, search=2)
    assert len({one.name for one in found.made}) == 2
    made = [one for one in found.made if one.image is not None]
    assert made and all(one.confirmed for one in made)
    assert oracle(np.stack([one.image for one in made])).conflict.all()
    for one in made:
        start = pictures[int(one.name.split()[1])].astype(int)
        assert one.linf == np.abs(one.image - start).max() > 0


def test_the_verdict_tells_why_nothing_was_made(small_network, small_model, pictures, oracle):
    """No search, one that finds nothing, and a find that fresh processes do not confirm are three things."""
    chimera = lattice.search(small_model, pictures[0], oracle, Budget(), 0).chimera
    stack = audit.Stack(np.stack([chimera]))
    conflicting = audit.audit(small_network, stack, PAIR, search=1)
    assert report.describe(conflicting, stack, searched=1)["verdict"].endswith(
        "No search was started: every image conflicts already."
    )
    stack = audit.Stack(pictures[:1])
    agreeing = audit.audit(small_network, stack, PAIR)
    for image, expected in (
        (None, "No conflict could be made from the 1 images searched from."),
        (chimera, "Searches made 1 images on which the backends differed, but freshly started ones agree on all of"),
    ):
        found = replace(agreeing, made=(audit.Made("image 0", image, 10, 2, linf=1, confirmed=False),))
        assert expected in report.describe(found, stack, searched=1)["verdict"]


def test_the_rate_carries_on_the_density():
    rng = np.random.default_rng(0)
    rates, holds = [], 0
    for _ in range(200):
        margins, spreads = rng.uniform(0, 5, 400), rng.uniform(0, 2e-6, 400)
        estimate = audit.extrapolate(margins, spreads)
        rates.append(estimate.rate)
        holds += estimate.interval.low <= 1e-7 <= estimate.interval.high
    assert np.mean(rates) == pytest.approx(0.2 * 1e-6 / 2, rel=0.05)
    assert 180 <= holds <= 199


def test_the_rate_is_what_a_simulation_shows():
    """Signed margins, flat near zero, and three backends' errors: how often do signs differ?"""
    rng = np.random.default_rng(1)
    ideal, errors = rng.uniform(-1, 1, 400_000), rng.normal(0, 2e-3, (3, 400_000))
    gaps = ideal + errors
    seen = float(((gaps > 0).any(0) & (gaps < 0).any(0)).mean())
    estimate = audit.extrapolate(np.abs(gaps.mean(0)), np.ptp(gaps, axis=0))
    low, high = estimate.interval
    assert low < seen < high and seen == pytest.approx(estimate.rate, rel=0.15)


def test_nothing_is_extrapolated_from_few_or_equal_images():
    assert audit.extrapolate(np.ones(19), np.ones(19)) is None
    assert audit.extrapolate(np.zeros(50), np.ones(50)) is None


def test_a_backend_that_dies_midway_is_reported(small_network, pictures, scripted):
    warned = []
    dying = scripted("dying", predict="if self.count > 33: os._exit(3)")
    images = np.concatenate([pictures] * 3)
    found = audit.audit(small_network, images, [*PAIR, dying], report=warned.append)
    assert list(found.lost) == ["dying"] and "status 3" in found.lost["dying"] and len(warned) == 1
    assert found.bit_classes["dying"] == 0
    assert (found.predictions[2, :32] >= 0).all() and (found.predictions[2, 32:] == -1).all()
    assert np.isfinite(found.margins).all() and found.said(35).keys() == set(PAIR)
    with pytest.raises(BackendDied):
        audit.audit(small_network, images, ["openblas", dying], report=warned.append)


def test_a_backend_that_answers_in_another_shape_is_named(small_network, pictures, scripted):
    short = scripted("short", predict="return np.zeros(7, np.float32)")
    with (
        Oracle(small_network, ["openblas", short]) as oracle,
        pytest.raises(ChimeraError, match="short gives 7 classes, openblas 10"),
    ):
        oracle(pictures[:2])
    table = equivalence.survey(small_network, ["openblas", short], pictures[:2])
    assert "gives 7 classes; expected 10" in table[1].reason


def test_the_noise_is_that_of_all_but_one_image_in_a_hundred(small_network):
    """Two backends whose gaps differ by 1 to 1,000 millionths: the unit is the 990th, not the middle nor the end."""
    spread = np.arange(1, 1001) * 1e-6
    gaps = np.stack([np.full(1000, 0.5), 0.5 + spread])
    zeros = np.zeros((2, 1000), int)
    names = [str(i) for i in range(1000)]
    found = audit.Audit(small_network, names, {"a": {}, "b": {}}, {}, {}, zeros, gaps, zeros, {"a": (), "b": ("1",)})
    assert found.noise == pytest.approx(990e-6, abs=1.1e-6)
    assert found.within() == {1: 0, 10: 0, 100: 0} and float(found.margins.min()) > 500 * found.noise


def test_a_named_backend_that_is_missing_is_an_error(small_network, pictures, scripted):
    gone = scripted("gone", start="raise RuntimeError('no such processor')")
    with pytest.raises(BackendUnavailable, match="no such processor"):
        audit.audit(small_network, pictures, [*PAIR, gone])
    with pytest.raises(UnknownName, match="did you mean 'openblas'"):
        audit.audit(small_network, pictures, ["openblass", "blis"])
    with pytest.raises(ChimeraError, match="two or more different backends"):
        audit.audit(small_network, pictures, ["openblas"])


def test_logits_that_are_not_finite_name_the_image(small_network, pictures, scripted):
    poisoned = scripted("poisoned", predict=f"if image[0, 0, 0] == {pictures[2][0, 0, 0]}: return np.full(10, np.nan)")
    with pytest.raises(ChimeraError, match=r"^image 2: logits of poisoned hold NaN"):
        audit.audit(small_network, pictures, [*PAIR, poisoned])


def test_an_interrupted_audit_goes_on(small_network, pictures, scripted, tmp_path):
    """The second run asks only what the first had no answer to; other pictures are asked anew."""
    log = tmp_path / "log"
    counting = scripted("counting", predict=f"open({str(log)!r}, 'a').write('x')")
    images = np.concatenate([pictures] * 6)
    keep = tmp_path / "keep"
    first = audit.audit(small_network, images[:32], ["openblas", counting], keep=keep)
    assert log.read_text() == "x" * 32
    second = audit.audit(small_network, images, ["openblas", counting], keep=keep)
    assert log.read_text() == "x" * len(images)
    np.testing.assert_array_equal(second.gaps[:, :32], first.gaps)
    for path in keep.glob("*.npz"):
        path.write_bytes(b"torn")
    third = audit.audit(small_network, images, ["openblas", counting], keep=keep)
    np.testing.assert_array_equal(third.gaps, second.gaps)


def test_models_come_in_several_forms(small_network, small_model, tmp_path):
    assert audit.load("resnet20").sha256 == small_network.sha256
    small_network.save(tmp_path / "n.npz")
    assert audit.load(str(tmp_path / "n.npz")).sha256 == small_network.sha256
    (tmp_path / "mine.py").write_text(
        "from chimera_lib.images import models\ndef net(): return models.load('resnet20')\n"
    )
    asked = audit.load(f"{tmp_path / 'mine.py'}:net", lambda: (32, 32))
    assert json.dumps(asked.program) == json.dumps(small_network.program)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("resnet21", "did you mean 'resnet20'"),
        ("TMP/none.onnx", "no such file; expected an ONNX file"),
        ("TMP/text.onnx", "text.onnx"),
        ("TMP/text.txt", "no model that can be read"),
        ("TMP/none.py:net", "not a file"),
    ],
)
def test_models_that_cannot_be_read(spec, expected, tmp_path):
    for name in ("text.onnx", "text.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(ChimeraError, match=expected):
        audit.load(spec.replace("TMP", str(tmp_path)))


def test_nan_weights_are_refused(small_network):
    arrays = {name: array.copy() for name, array in small_network.arrays.items()}
    next(iter(arrays.values())).ravel()[0] = np.nan
    with pytest.raises(ChimeraError, match="holds NaN"):
        Network(small_network.ops, arrays)


def test_a_normalisation_is_that_of_its_numbers(small_network, oracle, pictures):
    with pytest.raises(ChimeraError, match="--normalise imagnet: expected none, imagenet, half"):
        audit.normalised(small_network, "imagnet")
    with pytest.raises(ChimeraError, match="3 means / 3 positive"):
        audit.normalised(small_network, "0,0,0/1,1,0")
    assert audit.normalised(small_network, "none") is small_network
    same = audit.audit(audit.normalised(small_network, "0,0,0/1,1,1"), pictures[:2], PAIR)
    np.testing.assert_array_equal(same.predictions, oracle(pictures[:2]).predictions)
    other = audit.audit(audit.normalised(small_network, "half"), pictures[:2], PAIR)
    assert np.abs(other.margins - same.margins).max() > 0.1
