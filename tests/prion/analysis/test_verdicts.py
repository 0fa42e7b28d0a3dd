"""What comparisons allow one to say: each of the three answers, when it is due and when it is not."""

import doctest
import json

import numpy as np
import pytest

from chimera_lib import effects, stats
from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import files, verdicts

HIGH, LOW = [5.0, 6.0, 5.5, 6.5, 5.8], [1.0, 1.5, 1.2, 2.0, 1.4]
NEAR = [1.05, 1.45, 1.25, 1.95, 1.42]
WIDE, WIDE_TOO = [3.0, -9.0, 8.0, -2.0, 1.0], [-4.0, 6.0, 2.0, -8.0, 5.0]


@pytest.mark.parametrize(
    ("a", "b", "claim", "relation", "answer"),
    [
        (HIGH, LOW, "greater", "differs", "holds"),
        (HIGH, LOW, "less", "differs", "does not hold"),
        (LOW, HIGH, "less", "differs", "holds"),
        (HIGH, LOW, "different", "differs", "holds"),
        (HIGH, LOW, "equivalent", "differs", "does not hold"),
        (NEAR, LOW, "equivalent", "equivalent", "holds"),
        (NEAR, LOW, "greater", "equivalent", "does not hold"),
        (NEAR, LOW, "different", "equivalent", "does not hold"),
        (WIDE, WIDE_TOO, "greater", "cannot tell", "cannot tell"),
        (WIDE, WIDE_TOO, "equivalent", "cannot tell", "cannot tell"),
        (HIGH, LOW, None, "differs", "holds"),
    ],
)
@pytest.mark.parametrize("paired", [True, False])
def test_answers(a: list, b: list, claim: str | None, relation: str, answer: str, paired: bool) -> None:
    found = verdicts.compare(a, b, paired=paired, margin=1.0, claim=claim)  # type: ignore[arg-type]
    assert (found.relation, found.answer) == (relation, answer)
    assert found.text.endswith(f"claimed {claim}: {answer}" if claim else relation)


def test_a_small_difference_that_is_sure_is_both_a_difference_and_small() -> None:
    a = [1.0, 2.0, 3.0, 4.0, 5.0]
    b = [0.9, 1.91, 2.9, 3.89, 4.9]
    found = verdicts.compare(a, b, margin=0.5)
    assert found.differs and found.equivalent and found.relation == "differs within the margin"
    assert found.answer == "holds" and "smaller than the margin" in found.text
    answers = {claim: verdicts.compare(a, b, margin=0.5, claim=claim).answer for claim in verdicts.CLAIMS}  # type: ignore[arg-type]
    assert answers == {"greater": "holds", "less": "does not hold", "different": "holds", "equivalent": "holds"}
    assert verdicts.compare(a, b).relation == "differs"  # no margin was named
    assert verdicts.compare(a, b, paired=False, margin=0.5).relation == "cannot tell"  # the seeds' spread hides it


def test_numbers_are_those_of_the_tests() -> None:
    found = verdicts.compare(HIGH, LOW, paired=False, margin=1.0, name="x", unit="nats")
    tested, size = effects.welch_t(HIGH, LOW), effects.hedges_g(HIGH, LOW)
    assert (found.effect, found.interval, found.p) == (tested.difference, tested.interval, tested.p)
    assert (found.g, found.g_interval) == (size.g, size.interval)
    assert found.p_equivalent == effects.tost(HIGH, LOW, margin=1.0)
    assert (
        found.n == (5, 5) and found.bootstrap is not None and found.bootstrap.low < found.effect < found.bootstrap.high
    )
    by_seed = verdicts.compare(HIGH, LOW)
    assert by_seed.interval == stats.student(np.subtract(HIGH, LOW))
    assert by_seed.bootstrap == effects.paired_bootstrap(HIGH, LOW)
    assert found.text.startswith("x: +4.34 nats [+3.63, +5.05]") and "n = 5 and 5, g = " in found.text
    assert "n = 5 pairs" in by_seed.text


def test_holm_corrects_both_kinds_of_test_over_all_of_them() -> None:
    family = [
        verdicts.compare(HIGH, LOW, margin=1),
        verdicts.compare(WIDE, WIDE_TOO, margin=1),
        verdicts.compare([1.0], [2.0]),
    ]
    corrected = verdicts.holm_all(family)
    assert [one.p_holm for one in corrected[:2]] == stats.holm([one.p or 0 for one in family[:2]]).tolist()
    both = stats.holm([one.p_equivalent or 0 for one in family[:2]]).tolist()
    assert [one.p_equivalent_holm for one in corrected[:2]] == both
    assert corrected[2].p_holm is None and family[0].p_holm is None
    assert "Holm p" in corrected[0].text and "Holm" not in family[0].text


def test_correction_can_turn_an_answer() -> None:
    edge = verdicts.against_zero([1.0, 2.0, 0.5, 1.5, 0.0], claim="greater")
    assert edge.p is not None and 0.025 < edge.p < 0.05
    assert edge.answer == "holds"
    assert {one.answer for one in verdicts.holm_all([edge, edge])} == {"cannot tell"}


def test_one_group_against_no_change() -> None:
    found = verdicts.against_zero([0.01, -0.02, 0.03, 0.0, 0.01], margin=0.1, claim="equivalent", name="sham")
    assert found.answer == "holds" and found.n == (5, 0) and "(n = 5, " in found.text


def test_a_sure_difference_holds_whatever_the_margin() -> None:
    a, b = [3.0, 3.2, 2.8, 3.1, 2.9], [0.01, -0.02, 0.0, 0.02, -0.01]
    found = verdicts.compare(a, b, margin=5, claim="greater")
    assert found.answer == "holds" and found.text.endswith("smaller than the margin): claimed greater: holds")
    assert "smaller than" not in verdicts.compare(a, b, margin=1, claim="greater").text


def test_few_values_are_never_equivalent() -> None:
    values = [0.01, -0.02, 0.03, 0.0, 0.01]
    for n in (2, 4):
        found = verdicts.against_zero(values[:n], margin=10.0, claim="equivalent")
        assert found.within and not found.equivalent and found.answer == found.relation == "cannot tell"
        assert "fewer than 5 values" in found.text
    unequal = verdicts.compare(values, [0.02, 0.0], margin=10.0, paired=False, claim="equivalent")
    assert unequal.within and unequal.answer == "cannot tell"
    sure = verdicts.compare([0.1, 0.11, 0.12], [0.0, 0.01, 0.021], margin=10.0, claim="equivalent")
    assert sure.differs and sure.answer == "cannot tell"


@pytest.mark.parametrize(
    ("moved", "answer"), [(None, "holds"), (1.0, "holds"), (0.1, "holds"), (0.09, "cannot tell"), (0.0, "cannot tell")]
)
def test_weights_that_hardly_moved_are_not_immune(moved: float | None, answer: str) -> None:
    found = verdicts.against_zero([0.01, -0.02, 0.03, 0.0, 0.01], margin=0.1, claim="equivalent", moved=moved)
    assert found.answer == answer and ("weights hardly moved" in found.text) == (answer == "cannot tell")
    greater = verdicts.compare(NEAR, LOW, margin=1.0, claim="greater", moved=moved)
    assert greater.answer == ("does not hold" if answer == "holds" else "cannot tell")
    assert verdicts.compare(HIGH, LOW, margin=1.0, claim="greater", moved=0.0).answer == "holds"


@pytest.mark.parametrize(
    ("a", "b", "note"),
    [
        ([1.0], [3.0], "a single value"),
        ([1.1, 2.2], [0.1, 1.2], "do not vary"),
        ([2.0] * 3, [1.0] * 3, "do not vary"),
    ],
)
def test_where_no_test_is_possible_nothing_is_claimed(a: list, b: list, note: str) -> None:
    found = verdicts.compare(a, b, margin=5.0, claim="equivalent")
    assert found.p is found.interval is found.g is found.equivalent is None
    assert found.answer == "cannot tell" and note in found.note and note in found.text


def test_a_group_that_does_not_vary_is_said_so() -> None:
    assert "does not vary" in verdicts.compare([1.0, 2.0, 4.0], [1.5, 1.5, 1.5], paired=False).note


def test_two_pairs_have_no_effect_size_and_say_why() -> None:
    found = verdicts.compare([1.0, 2.0], [0.0, 0.5])
    assert found.g is None and found.p is not None and "three or more" in found.note


def test_a_record_is_plain_json() -> None:
    record = json.loads(
        json.dumps(files.strict(verdicts.compare(HIGH, LOW, margin=1.0, claim="greater").record), allow_nan=False)
    )
    assert record["answer"] == "holds" and len(record["interval"]) == 2 and record["n"] == [5, 5]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ChimeraError, match="flat lists of finite"):
        verdicts.compare([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ChimeraError, match="flat lists of finite"):
        verdicts.compare([], [])
    with pytest.raises(ChimeraError, match="pairs of 3 and 2"):
        verdicts.compare([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ChimeraError, match="margin -1"):
        verdicts.compare([1.0, 2.0], [1.0, 2.5], margin=-1)
    with pytest.raises(ChimeraError, match="unknown claim 'bigger': choose one of greater"):
        verdicts.compare([1.0, 2.0], [1.0, 2.5], claim="bigger")  # type: ignore[arg-type]
    with pytest.raises(ChimeraError, match="needs a margin"):
        verdicts.compare([1.0, 2.0], [1.0, 2.5], claim="equivalent")


def test_examples() -> None:
    failed, tried = doctest.testmod(verdicts)
    assert failed == 0 and tried > 0
