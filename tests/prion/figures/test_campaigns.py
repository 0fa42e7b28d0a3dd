"""The figures and tables of notebooks 02 to 06, from runs whose numbers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from chimera_lib.prion import cascade, comparison, faults
from chimera_lib.prion.analysis import published
from chimera_lib.prion.figures import damage, labels, mechanism, rates, reanalysis, shield, sizes, trails, waterfall
from tests.prion.outcomes import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimera_lib.prion.experiment import Outcome

mpl.use("Agg")
MODELS = {"neox-0.3m": 331_136, "neox-1m": 1_055_488}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def seeds(**setting: object) -> list[Outcome]:
    return [outcome(damage=0.5 + 0.1 * seed, seed=seed, **setting) for seed in range(3)]  # type: ignore[arg-type]


def test_rows_show_means_and_every_seed() -> None:
    figure = damage.by_row({"catalyst": seeds(), "passage": seeds(treatment="text_fixed")})
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["catalyst", "passage"]
    dots = [line for line in left.lines if line.get_marker() == "." and len(line.get_xdata()) == 3]
    assert [round(float(x), 3) for x in dots[0].get_xdata()] == [0.5, 0.6, 0.7]
    assert right.get_xlabel().startswith("rank reduction")


def test_sizes_have_a_tick_each_and_slopes_are_of_equal_distance() -> None:
    runs = [one for model, size in MODELS.items() for one in seeds(model=model, parameters=size)]
    figure = damage.by_size({"eigen_prion": runs}, MODELS)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0.33 M", "1.1 M"]
    assert len(sizes.confounds({"eigen_prion": runs}, MODELS).axes) == 3
    shares = sizes.shares(runs, points=2)
    assert shares == pytest.approx([0.04995, 0.0999])
    assert sizes.at_share({"eigen_prion": runs}, MODELS, shares[0]).axes
    slope = sizes.slope(runs, shares[-1])
    assert slope.effect == pytest.approx(0, abs=1e-9)
    table = sizes.slopes({("eigen_prion", "rank_reduction_pct"): slope}, {"eigen_prion": slope})
    assert [row["at"] for row in table] == ["one rate", "equal distance"]


def test_trails_are_drawn_by_distance_and_by_steps() -> None:
    groups = {"eigen_prion": seeds(), "text_fixed": seeds(treatment="text_fixed")}
    assert trails.steps([one for runs in groups.values() for one in runs]) == [1, 2, 4]
    assert trails.change(groups["eigen_prion"][0], 2) == pytest.approx(0.25)
    assert "after 2 steps" in trails.after(groups, 2).axes[0].get_title()
    left = damage.along(groups).axes[0]
    assert [float(x) for x in left.lines[0].get_xdata()] == [0, 2.5, 5, 10]


def test_verdicts_become_rows() -> None:
    found = comparison.against_controls(
        {"eigen_prion": seeds(), "text_fixed": [outcome(damage=2.0 + s / 9, seed=s) for s in range(3)]},
        {"text_fixed": "passage"},
    )
    rows = trails.judged(found)
    assert [row["at"] for row in rows] == ["one rate", "equal distance", "equal loss"]
    assert rows[0]["claim"] == "does not hold"
    assert rows[0]["the two are"] == "different"


def test_optimizers_are_shown_by_rate_and_by_distance() -> None:
    runs = [
        one
        for name, moved in (("adamw", 10.0), ("sgd", 0.1))
        for rate in (1e-3, 1e-2)
        for one in seeds(optimizer=name, learning_rate=rate, moved=moved * rate * 1000)
    ]
    left, right = rates.rates(runs).axes
    assert left.get_xscale() == right.get_xscale() == "log"
    table = mechanism.at_rate(runs, 1e-3)
    assert [row["optimizer"] for row in table] == ["AdamW", "SGD"]
    assert table[1]["change of the weights"] == pytest.approx(0.1)
    assert [row["within 0.1 nats"] for row in table] == ["not shown", "not shown"]
    far = mechanism.farthest(runs)
    assert {one.setting.rate for one in far["eigen_prion"]["sgd"]} == {1e-2}
    assert mechanism.at_distance(far, 0.5).axes
    verdict = comparison.against(seeds(), seeds(optimizer="sgd"), "log_perplexity_change", name="x")
    assert mechanism.judged({("eigen_prion", "sgd"): verdict})[0]["AdamW less"] == "SGD"


def test_optimizers_are_immune_only_with_runs_enough_and_weights_that_moved() -> None:
    def shown(moved: float, count: int) -> list[str]:
        damages = (0.01, -0.02, 0.03, 0.0, 0.01)[:count]
        strong = [outcome(damage=2 + seed / 9, moved=10.0, learning_rate=1e-3, seed=seed) for seed in range(count)]
        weak = [
            outcome(damage=one, moved=moved, learning_rate=1e-3, seed=seed, optimizer="sgd")
            for seed, one in enumerate(damages)
        ]
        return [row["within 0.1 nats"] for row in mechanism.at_rate(strong + weak, 1e-3)]

    assert shown(8.0, 5) == ["not shown", "yes"]
    assert shown(0.1, 5) == ["not shown", "weights hardly moved"]
    assert shown(8.0, 4) == ["not shown", "too few runs"]


def test_immunity_of_optimizers_is_corrected_over_them() -> None:
    damages = (0.0, 0.11, 0.02, 0.08, 0.04)
    one, many = (
        [
            row["within 0.1 nats"]
            for row in mechanism.at_rate(
                [
                    outcome(damage=value, learning_rate=1e-3, seed=seed, optimizer=name)
                    for name in names
                    for seed, value in enumerate(damages)
                ],
                1e-3,
            )
        ]
        for names in (["sgd"], list(labels.OPTIMIZERS))
    )
    assert one == ["yes"] and many == ["not shown"] * 4


def test_shields_change_one_thing_at_a_time() -> None:
    runs = [
        one
        for precision, tuning in shield.LEVELS
        for treatment in ("eigen_prion", "text_fixed")
        for one in seeds(precision=precision, tuning=tuning, treatment=treatment)
    ]
    groups = shield.by_level(runs)
    assert list(groups) == ["fp32", "fp32-lora", "8bit-lora", "4bit-lora"]
    assert [change.key for change in shield.steps(groups)] == ["adapters", "8bit", "4bit"]
    verdict = shield.compare(groups, "eigen_prion", shield.CHANGES[1], "one rate")
    assert verdict.effect == 0
    assert shield.judged({"one rate": [verdict]})[0]["shield"].startswith("catalyst")
    assert shield.after(groups, 4).axes


def test_the_waterfall_begins_each_bar_where_the_last_ended() -> None:
    def step(name: str, headline: float) -> cascade.Step:
        values = (headline, headline + 0.2)
        return cascade.Step(name, faults.CORRECTED, values, values, values, values)

    path = [step("as published", 10.0), step("double_shift", 4.0), step("unused_directions", 1.0)]
    bars = waterfall.waterfall(path).axes[0].patches
    assert [round(bar.get_x() + min(bar.get_width(), 0), 3) for bar in bars] == [0, 4.1, 1.1, 0]
    assert [round(abs(bar.get_width()), 3) for bar in bars] == [10.1, 6.0, 3.0, 1.1]
    table = reanalysis.contributions(path)
    assert [row["reported (%)"] for row in table] == pytest.approx([-6.0, -3.0])
    assert table[0]["95 % interval"] == "-6.0 to -6.0"
    assert reanalysis.largest(path) == "double_shift"
    assert "as published" in reanalysis.pair(path[0]).axes[0].get_title()


def test_the_waterfall_marks_faults_that_cannot_act() -> None:
    values = (1.0, 2.0)
    path = [
        cascade.Step(name, faults.CORRECTED, values, values, values, values, acts)
        for name, acts in (("as published", "runs"), ("sharp_end", "nothing"), ("absolute", "report"))
    ]
    figure = waterfall.waterfall(path)
    told = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert told == ["as published", f"{labels.FAULTS['sharp_end']} *", f"{labels.FAULTS['absolute']} †", "all mended"]
    assert "zero by construction" in figure.get_supxlabel() and "report only" in figure.get_supxlabel()
    assert waterfall.waterfall(path[:1] * 2).get_supxlabel() == ""
    idle, report = reanalysis.contributions(path)
    assert idle["95 % interval"] == idle["its 95 % interval"] == report["its 95 % interval"] == "zero by construction"
    assert report["95 % interval"] == "none: nothing changed"


def test_every_fault_and_treatment_has_words() -> None:
    from chimera_lib.prion import experiment, optimizers

    assert set(labels.FAULTS) == {"as published", *faults.NAMES}
    assert set(labels.TREATMENTS) == set(experiment.TREATMENTS)
    assert set(labels.OPTIMIZERS) == set(optimizers.NAMES)
    assert labels.size(1.4e9) == "1.4 B"


def test_the_published_runs_are_drawn_with_one_legend_entry_each() -> None:
    figure = reanalysis.sizes(published.sizes())
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == len(legend.get_texts()) == 3
    assert reanalysis.tests(published.comparisons())[0]["priority"] == "2 placebo"
    assert reanalysis.as_rows(published.sizes())[0]["model"] == "70m"
    told = reanalysis.confounds(published.comparisons())
    assert any(row["priority"] == "2 placebo" and "optimizer differs" in row["what else differs"] for row in told)
