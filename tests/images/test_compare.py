"""Strategies side by side: only what fresh processes confirm is counted, and every number has its interval."""

from __future__ import annotations

import numpy as np
import pytest

from chimera_lib import recorded, stats
from chimera_lib.images import campaign, compare
from chimera_lib.images.search import lattice
from chimera_lib.images.search.protocol import Budget

BUDGET = Budget(evaluations=700, oracle_calls=20)
PAIR = ("openblas", "blis")


@pytest.fixture(scope="module")
def compared(small_model, small_network, pictures, tmp_path_factory):
    """Two strategies from pictures 2 to 4: the summaries, and the folder of their rows."""
    folder = tmp_path_factory.mktemp("compare")
    summaries = compare.compare(
        small_model, small_network, pictures, range(2, 5), strategies=["random_noise", "lattice"], backends=PAIR,
        budget=BUDGET, seeds=(0,), output=folder,
    )  # fmt: skip
    return summaries, folder


def test_compare_uses_the_starts_that_were_named(compared):
    summaries, folder = compared
    assert list(summaries) == ["random_noise", "lattice"]
    for name, one in summaries.items():
        rows = [row for row, _ in campaign.load(folder / name).values()]
        assert [row.start for row in rows] == [2, 3, 4]
        assert one["n"] == 3
        assert one["found"] == one["verified"] == sum(row.found for row in rows)
        assert set(one["backends"]) == set(PAIR)
        assert one["median_evaluations"] <= BUDGET.evaluations
    assert summaries["lattice"]["found"] >= 2 > summaries["random_noise"]["found"]


@pytest.fixture(scope="module")
def over_seeds(small_model, small_network, pictures, tmp_path_factory):
    """The lattice walk from pictures 0 and 1 with seeds 0 and 1: the summaries, the same once more, the folder."""
    folder = tmp_path_factory.mktemp("seeds")

    def run(model):
        return compare.compare(
            model, small_network, pictures, range(2), strategies=["lattice"], backends=PAIR, budget=BUDGET,
            seeds=(0, 1), output=folder, progress=False,
        )  # fmt: skip

    first = run(small_model)
    rows = {path: path.read_bytes() for path in folder.rglob("rows.jsonl")}
    again = run(None)  # nothing is left to search, so no model is asked
    assert rows == {path: path.read_bytes() for path in folder.rglob("rows.jsonl")}
    return first, again, folder


def test_several_seeds_are_pooled_and_told_apart(over_seeds, small_network):
    (one, again), folder = ([each["lattice"] for each in over_seeds[:2]], over_seeds[2])
    assert sorted(path.name for path in (folder / "lattice").iterdir()) == ["seed-0", "seed-1"]
    by_seed = [[row for row, _ in campaign.load(folder / "lattice" / f"seed-{seed}").values()] for seed in (0, 1)]
    assert [[row.start for row in rows] for rows in by_seed] == [[0, 1], [0, 1]]
    assert by_seed[0] != by_seed[1], "another seed, another search"
    assert one["n"] == 4
    assert one["found"] == one["verified"] == sum(row.found for rows in by_seed for row in rows) >= 3
    assert one["by_seed"]["rate"] == [np.mean([row.found for row in rows]) for rows in by_seed]
    assert one["by_seed"]["evaluations"] == [np.median([row.evaluations for row in rows]) for rows in by_seed]
    assert one == again


def test_record_has_the_mean_over_seeds(over_seeds, compared, tmp_path):
    compare.write_record(tmp_path / "seeds.json", over_seeds[0])
    metrics = recorded.read(tmp_path / "seeds.json")["metrics"]
    for quantity in ("rate", "evaluations"):
        values = over_seeds[0]["lattice"]["by_seed"][quantity]
        metric = metrics[f"lattice_{quantity}_by_seed"]
        assert (metric["value"], metric["n"]) == (np.mean(values), 2)
        if len(set(values)) == 1:
            assert metric.get("ci") is None, "no spread, no interval"
            continue
        low, high = stats.student(values)
        assert metric["ci"] == pytest.approx([max(low, 0), min(high, 1)] if quantity == "rate" else [low, high])
    assert metrics["lattice_rate"]["n"] == 4
    compare.write_record(tmp_path / "one.json", compared[0])
    assert not any("by_seed" in name for name in recorded.read(tmp_path / "one.json")["metrics"])


def test_verified_wants_each_backend_to_say_what_it_said(small_network, over_seeds):
    kept = [each for seed in (0, 1) for each in campaign.load(over_seeds[2] / "lattice" / f"seed-{seed}").values()]
    found = [(image, [row.predictions[name] for name in PAIR]) for row, image in kept if row.found]
    images, said = (list(each) for each in zip(*found, strict=True))
    assert compare.verified(small_network, PAIR, images, said).sum() == len(images) >= 3
    assert compare.verified(small_network, PAIR, images, [said[0][::-1], *said[1:]]).sum() == len(images) - 1
    third = next(c for c in range(10) if c not in said[1])
    wrong = [said[0], [said[1][0], third], *said[2:]]
    assert compare.verified(small_network, PAIR, images, wrong).sum() == len(images) - 1
    assert compare.verified(small_network, PAIR, images).sum() == len(images)


def test_verified_drops_what_is_no_chimera(small_model, small_network, oracle, pictures):
    chimera = lattice.search(small_model, pictures[0], oracle, Budget(), 0).chimera
    assert chimera is not None
    assert compare.verified(small_network, PAIR, [chimera]).sum() == 1
    assert compare.verified(small_network, PAIR, [pictures[0], chimera, pictures[1]]).sum() == 1
    assert compare.verified(small_network, PAIR, [pictures[1]]).sum() == 0
    assert compare.verified(small_network, PAIR, []).sum() == 0


def test_verified_counts_those_that_hold_each_time(small_network, monkeypatch):
    """Fresh processes each round; an image that differs only once is not counted."""
    rounds = [[True, True, False, True], [True, False, True, True]]
    opened = []

    class Fresh:
        def __init__(self, network, backends):
            assert network is small_network
            opened.append(tuple(backends))
            self.conflict = np.array(rounds[len(opened) - 1])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __call__(self, images):
            assert images.shape == (4, 32, 32, 3)
            return self

    monkeypatch.setattr(compare, "Oracle", Fresh)
    assert compare.verified(small_network, PAIR, [np.zeros((32, 32, 3), np.uint8)] * 4).sum() == 2
    assert opened == [PAIR, PAIR]


def test_record_has_n_and_interval_of_each_metric(compared, tmp_path):
    summaries, _ = compared
    compare.write_record(tmp_path / "compare.json", summaries)
    content = recorded.read(tmp_path / "compare.json")
    metrics = content["metrics"]
    quantities = ("rate", "verified_rate", "evaluations", "oracle_calls", "cpu_seconds")
    for name, one in summaries.items():
        for quantity in quantities:
            metric = metrics[f"{name}_{quantity}"]
            assert metric["n"] == 3
            low, high = metric["ci"]
            assert low <= metric["value"] <= high
        assert metrics[f"{name}_rate"]["value"] == one["found"] / 3
        assert metrics[f"{name}_verified_rate"]["value"] == one["verified"] / 3
        assert metrics[f"{name}_evaluations"]["value"] == one["median_evaluations"]
    near = metrics["lattice_linf"]
    assert near["n"] == summaries["lattice"]["found"] and near["ci"][0] <= near["value"] <= near["ci"][1]
    assert set(content["backends"]) == set(PAIR)


def summary(found: int, verified: int, n: int) -> compare.Summary:
    rows = [campaign.Row(i, i < found, 100, 5, 0.5, 1e-6, *((3, 40) if i < found else (None, None))) for i in range(n)]
    told = {"verified": verified, "verified_ci": stats.exact(verified, n)}
    return campaign.summary(rows) | told | {"backends": {"blis": {"version": "1"}}}


def test_record_keeps_the_unverified_apart(tmp_path):
    compare.write_record(tmp_path / "r.json", {"lattice": summary(8, 6, 10), "random_noise": summary(0, 0, 10)})
    metrics = recorded.read(tmp_path / "r.json")["metrics"]
    assert (metrics["lattice_rate"]["value"], metrics["lattice_verified_rate"]["value"]) == (0.8, 0.6)
    assert metrics["lattice_linf"] == {"value": 3.0, "n": 8, "ci": [3.0, 3.0]}
    assert metrics["random_noise_rate"] == {"value": 0.0, "n": 10, "ci": [0.0, pytest.approx(1 - 0.025**0.1)]}
    assert not any(name.startswith(("random_noise_linf", "random_noise_l0")) for name in metrics)


def test_as_text():
    lines = compare.as_text({"lattice": summary(8, 6, 10), "random_noise": summary(0, 0, 10)}).splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:2] == ["strategy", "found/n"]
    assert lines[1].split() == ["lattice", "8/10", "80.0%", "(44.4%", "to", "97.5%)", "6", "100", "0.50", "3"]
    assert lines[2].split() == ["random_noise", "0/10", "0.0%", "(0.0%", "to", "30.8%)", "0", "100", "0.50", "-"]


def row(start, found, evaluations):
    return campaign.Row(start, found, evaluations, 1, 0.1, None, 2 if found else None, 9 if found else None)


def test_several_seeds_of_a_start_are_no_independent_runs():
    rows = [row(start, start < 6, 100 + start) for start in range(12) for _ in range(3)]
    one = compare.by_start(rows)
    assert one["rate_ci"].high - one["rate_ci"].low > 0.4, "twelve starts, not 36"
    assert one["median_evaluations_ci"].low < 105.5 < one["median_evaluations_ci"].high
    assert compare.rate_interval(rows, [r.found and r.start > 0 for r in rows]) == stats.exact(5, 12)
    uneven = compare.by_start([row(0, True, cost) for cost in (1, 2, 900)] + [row(1, True, 10)] * 3)
    assert uneven["median_evaluations"] == 6.0, "the median of the starts' medians, 2 and 10"
    none = compare.by_start([row(start, False, 100) for start in range(12) for _ in range(3)])
    assert none["rate_ci"] == stats.exact(0, 12)
    assert none["median_linf_ci"] is None
