"""As many different chimeras as were asked for, each with where it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.images import campaign, generate
from chimera_lib.images.backends import registry
from chimera_lib.images.search.protocol import Budget

BUDGET = Budget(evaluations=1500, oracle_calls=40)
PAIR = ("openblas", "blis")


@pytest.fixture(scope="module")
def made(small_model, small_network, pictures, tmp_path_factory):
    """Three chimeras from the pictures, and their folder."""
    folder = tmp_path_factory.mktemp("made")
    return folder, generate.chimeras(
        small_model, small_network, pictures, 3, backends=PAIR, output=folder, budget=BUDGET, seed=4, progress=False
    )


def test_images_are_distinct_chimeras(made, oracle):
    _, result = made
    assert len({image.tobytes() for image in result.images}) == len(result.images) == 3
    assert oracle(np.stack(result.images)).conflict.all()


def test_origins_fit_the_images(made, oracle, pictures):
    folder, result = made
    starts = [origin["start"] for origin in result.origins]
    assert starts == sorted(set(starts)) and starts[-1] < result.tried <= len(pictures)
    said = oracle(np.stack(result.images)).predictions.T
    for origin, image, classes in zip(result.origins, result.images, said, strict=True):
        assert (origin["strategy"], origin["seed"]) == ("lattice", 4)
        assert origin["predictions"] == dict(zip(oracle.names, classes, strict=True))
        from_each = [np.abs(image.astype(int) - picture).sum() for picture in pictures]
        assert np.argmin(from_each) == origin["start"]
    assert campaign.origins(folder)[0] == result.origins


def test_a_second_call_goes_on(made, small_model, small_network, pictures):
    folder, before = made
    lines = (folder / "rows.jsonl").read_bytes()
    options = {"backends": PAIR, "output": folder, "budget": BUDGET, "seed": 4, "progress": False}
    after = generate.chimeras(small_model, small_network, pictures, 4, **options)
    assert len(after.images) == 4 and after.origins[:3] == before.origins
    assert all(map(np.array_equal, before.images, after.images))
    assert (folder / "rows.jsonl").read_bytes().startswith(lines)


def test_the_same_find_from_two_starts_counts_once(made, small_model, small_network, tmp_path):
    """The published boundary search ends where it starts: from a chimera, it finds that one again."""
    first, second, _ = made[1].images
    options = {"backends": PAIR, "strategy": "boundary_as_published", "progress": False}
    images = np.stack([first, first, first, second])
    result = generate.chimeras(small_model, small_network, images, 2, output=tmp_path / "two", **options)
    assert [origin["start"] for origin in result.origins] == [0, 3]
    assert all(map(np.array_equal, result.images, (first, second)))
    assert result.tried == 4
    with pytest.raises(ChimeraError, match="1 chimeras from 3 starts; 2 were asked for"):
        generate.chimeras(small_model, small_network, images[:3], 2, output=tmp_path / "one", **options)


def test_starts_that_run_out_are_counted(small_model, small_network, pictures, tmp_path):
    options = {"backends": PAIR, "budget": Budget(evaluations=3, oracle_calls=1), "progress": False}
    with pytest.raises(ChimeraError, match="0 chimeras from 2 starts; 5 were asked for: lower that or"):
        generate.chimeras(small_model, small_network, pictures[:2], 5, output=tmp_path, **options)
    assert [row.start for row, _ in campaign.load(tmp_path).values()] == [0, 1]


def test_unavailable_says_why(small_network):
    assert generate.unavailable(PAIR, small_network) is None
    absent = registry.Backend("absent", "atlas", options={**registry.DEBIAN_ATLAS, "path": "/no/lib.so"})
    reason = generate.unavailable(["openblas", absent], small_network)  # type: ignore[list-item]
    assert reason is not None and "absent" in reason and "libatlas3-base" in reason and "\n" not in reason
    with pytest.raises(UnknownName, match="unknown backend 'mlk'"):
        generate.unavailable(["openblas", "mlk"], small_network)
