"""A campaign keeps what it has found through kills, and never mixes two of different settings."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from chimera_lib.errors import ChimeraError
from chimera_lib.images import campaign
from chimera_lib.images.oracle import Oracle
from chimera_lib.images.search import STRATEGIES, lattice, protocol
from chimera_lib.images.search.protocol import Budget

BUDGET = Budget(evaluations=700, oracle_calls=20)
STARTS = range(4)


@pytest.fixture
def searches(monkeypatch):
    """The starts' seeds that were really searched; ``stop_at`` in it makes that search end as Ctrl-C does."""
    seen = {"seeds": [], "stop_at": None}
    real = campaign.strategy

    def counted(name):
        search = real(name)

        @functools.wraps(search)
        def wrapper(model, image, oracle, budget, seed):
            if seed == seen["stop_at"]:
                raise KeyboardInterrupt
            seen["seeds"].append(seed)
            return search(model, image, oracle, budget, seed)

        return wrapper

    monkeypatch.setattr(campaign, "strategy", counted)
    return seen


@pytest.fixture
def run(small_model, pictures, oracle):
    """Runs a lattice campaign on the pictures, in a folder or none."""

    def go(output=None, starts=STARTS, asked=oracle, images=pictures, **changes):
        options = {"name": "lattice", "budget": BUDGET, "seed": 0, "progress": False} | changes
        return campaign.run(small_model, images, starts, asked, output=output, **options)

    return go


@pytest.fixture(scope="module")
def whole(small_model, pictures, oracle, tmp_path_factory):
    """A finished campaign: its folder, rows and chimeras."""
    folder = tmp_path_factory.mktemp("campaign") / "whole"
    options = {"name": "lattice", "budget": BUDGET, "seed": 0, "output": folder, "progress": False}
    rows, found = campaign.run(small_model, pictures, STARTS, oracle, **options)
    assert len(found) >= 3, "the tests below need finds"
    return folder, rows, found


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return shutil.copytree(whole[0], tmp_path / "copy")


def timeless(rows):
    """Rows without what a clock says."""
    return [replace(row, cpu_seconds=0.0) for row in rows]


def same(images, others) -> bool:
    return len(images) == len(others) and all(map(np.array_equal, images, others))


def test_rows_say_what_the_images_are(whole, oracle, pictures):
    _, rows, found = whole
    assert [row.start for row in rows] == list(STARTS)
    verdict = oracle(np.stack(found))
    assert verdict.conflict.all()
    hits = [row for row in rows if row.found]
    assert len(hits) == len(found)
    for row, image, said in zip(hits, found, verdict.predictions.T, strict=True):
        change = np.abs(image.astype(int) - pictures[row.start])
        assert (row.linf, row.l0) == (change.max(), np.count_nonzero(change))
        assert row.predictions == dict(zip(oracle.names, said, strict=True))
        assert 0 < row.evaluations <= BUDGET.evaluations and 0 < row.oracle_calls <= BUDGET.oracle_calls
        assert row.smallest_gap is not None and 0 <= row.smallest_gap < 1e-4
        assert row.cpu_seconds > 0


def test_a_finished_campaign_searches_nothing(whole, copied, run, searches):
    before = (copied / "rows.jsonl").read_bytes()
    rows, found = run(copied)
    assert searches["seeds"] == []
    assert rows == whole[1], "to the very seconds spent: nothing was measured again"
    assert same(found, whole[2])
    assert (copied / "rows.jsonl").read_bytes() == before


def test_a_stopped_campaign_goes_on(whole, run, searches, tmp_path):
    searches["stop_at"] = 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    kept = (tmp_path / "rows.jsonl").read_bytes()
    assert len(kept.splitlines()) == 2
    searches["stop_at"] = None
    rows, found = run(tmp_path)
    assert searches["seeds"] == [0, 1, 2, 3]
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(kept)
    assert timeless(rows) == timeless(whole[1])
    assert same(found, whole[2])


def test_more_starts_cost_only_those(copied, run, searches, whole):
    rows, _ = run(copied, starts=range(1, 5))
    assert searches["seeds"] == [4]
    assert rows[:3] == whole[1][1:]
    assert [row.start for row in rows] == [1, 2, 3, 4]


def test_a_start_does_not_depend_on_those_before(whole, run):
    alone, found = run(None, starts=[3, 1])
    assert timeless(alone) == timeless([whole[1][3], whole[1][1]])
    by_start = dict(zip([row.start for row in whole[1] if row.found], whole[2], strict=True))
    assert same(found, [by_start[row.start] for row in alone if row.found])


def test_another_seed_is_another_search(whole, run):
    rows, found = run(None, starts=[0], seed=1)
    assert timeless(rows) != timeless(whole[1][:1])
    assert not same(found, whole[2][:1])


def test_a_last_line_cut_anywhere_costs_only_its_start(whole, copied):
    rows = copied / "rows.jsonl"
    lines = rows.read_bytes().splitlines(keepends=True)
    head = b"".join(lines[:-1])
    expected = {row.start: row for row in whole[1][:-1]}
    for cut in range(len(lines[-1]) - 1):
        rows.write_bytes(head + lines[-1][:cut])
        assert {start: row for start, (row, _) in campaign.load(copied).items()} == expected, lines[-1][:cut]
    rows.write_bytes(head + lines[-1][:-1])  # only the line end is gone: the row is whole
    assert len(campaign.load(copied)) == len(lines)


def test_a_torn_last_line_is_searched_again(whole, copied, run, searches):
    rows = copied / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-40])
    again, found = run(copied)
    assert searches["seeds"] == [3]
    assert timeless(again) == timeless(whole[1])
    assert same(found, whole[2])
    assert {start: row for start, (row, _) in campaign.load(copied).items()} == {row.start: row for row in again}


def test_the_row_after_a_torn_line_is_not_glued_to_it(tmp_path):
    torn = b'{"start": 0, "found": fal'
    (tmp_path / "rows.jsonl").write_bytes(torn)
    row = campaign.Row(7, False, 10, 1, 0.5, None)
    campaign.append(tmp_path, row, None)
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(torn + b"\n")
    assert campaign.load(tmp_path) == {7: (row, None)}


@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
def test_a_damaged_image_is_searched_again(damage, whole, copied, run, searches):
    start = next(row.start for row in whole[1] if row.found)
    image = copied / f"{start:05d}.png"
    if damage == "missing":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:-20] if damage == "torn" else b"")
    rows, found = run(copied)
    assert searches["seeds"] == [start]
    assert timeless(rows) == timeless(whole[1])
    assert same(found, whole[2])
    assert image.read_bytes() == (whole[0] / image.name).read_bytes()


def test_enough_different_finds_end_a_campaign(whole, copied, run, searches):
    rows, found = run(copied, enough=2)
    hits = [row.start for row in whole[1] if row.found]
    assert [row.start for row in rows] == list(range(hits[1] + 1))
    assert same(found, whole[2][:2])
    assert searches["seeds"] == []


def test_another_picture_is_searched_again(whole, copied, run, searches, pictures):
    """Under the number of a start that was searched, another picture may lie today: its chimera is not this one's."""
    changed = pictures.copy()
    changed[2] = pictures[7]
    rows, found = run(copied, images=changed)
    assert searches["seeds"] == [2]
    alone, its = run(None, images=changed, starts=[2])
    assert timeless(rows) == timeless([*whole[1][:2], *alone, *whole[1][3:]])
    assert rows[2].image == campaign.digest(pictures[7]) != whole[1][2].image
    assert its and any(np.array_equal(its[0], image) for image in found)
    searches["seeds"].clear()
    assert timeless(run(copied, images=changed)[0]) == timeless(rows) and searches["seeds"] == []


def test_a_row_without_a_digest_is_searched_again(copied, run, searches):
    rows = [json.loads(line) for line in (copied / "rows.jsonl").read_text().splitlines()]
    rows[1].pop("image")
    (copied / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(copied)
    assert searches["seeds"] == [1]


OTHER = {
    "seed": {"seed": 1},
    "strategy": {"name": "random_noise"},
    "evaluations": {"budget": replace(BUDGET, evaluations=701)},
    "oracle calls": {"budget": replace(BUDGET, oracle_calls=21)},
}


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
def test_other_settings_are_refused(changes, copied, run, searches):
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(ChimeraError, match="other settings; name another --output or delete it") as caught:
        run(copied, **changes)
    assert str(copied) in str(caught.value)
    assert searches["seeds"] == []
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_other_backends_and_other_code_are_refused(copied, run, small_network, monkeypatch):
    with Oracle(small_network, ("openblas", "numpy-openblas")) as other, pytest.raises(ChimeraError, match="other"):
        run(copied, asked=other)
    monkeypatch.setattr(campaign, "sources", lambda name: "0" * 64)
    with pytest.raises(ChimeraError, match="other settings"):
        run(copied)


def test_settings_name_the_network_and_the_backends(oracle, small_network):
    one = campaign.settings("lattice", BUDGET, 5, oracle)
    assert (one.network, one.seed, one.budget, one.strategy) == (small_network.sha256, 5, BUDGET, "lattice")
    for name, facts in oracle.info().items():
        assert facts["version"] in one.backends[name] and facts["kernels"] in one.backends[name]


def test_code_counts_where_it_is_used(monkeypatch, tmp_path):
    """A changed file is another campaign for the strategies that use it, and for no other."""
    before = {name: campaign.sources(name) for name in STRATEGIES}
    assert before == {name: campaign.sources(name) for name in STRATEGIES}
    walks = {"lattice", "exploit_known", "gradient_free", "hardware_in_the_loop"}  # they take steps of the lattice's
    for module, users in ((lattice, walks), (protocol, set(STRATEGIES))):
        changed = tmp_path / "changed.py"
        changed.write_bytes(Path(module.__file__).read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(changed))
            after = {name: campaign.sources(name) for name in STRATEGIES}
        assert {name for name in STRATEGIES if after[name] != before[name]} == users


def test_origins_are_those_of_the_images(whole, copied):
    origins, images = campaign.origins(copied)
    hits = [row for row in whole[1] if row.found]
    assert same(images, whole[2])
    assert origins == [
        {"strategy": "lattice", "seed": 0, "start": row.start, "predictions": row.predictions} for row in hits
    ]


def test_a_row_survives_its_file(tmp_path):
    image = np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    rows = [
        campaign.Row(3, True, 10, 1, 0.25, 1e-7, 2, 9, {"openblas": 1, "blis": 2}),
        campaign.Row(12, False, 7, 24, 0.5, 1e-6),
    ]
    campaign.append(tmp_path, rows[0], image)
    campaign.append(tmp_path, rows[1], None)
    back = campaign.load(tmp_path)
    assert [one for one, _ in back.values()] == rows
    assert np.array_equal(back[3][1], image) and back[12][1] is None
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == list(map(asdict, rows))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00003.png", "rows.jsonl"]


def test_a_torn_head_is_named(copied, run):
    (copied / "campaign.json").write_text('{"strategy": "lat')
    with pytest.raises(ChimeraError, match=r"campaign\.json"):
        run(copied)


def test_bytes_that_are_no_text_cost_only_their_line(whole, copied):
    with (copied / "rows.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x80")
    assert len(campaign.load(copied)) == len(whole[1])
