"""The faults of the published experiment, one by one."""

from __future__ import annotations

import pytest

from chimera_lib.errors import UnknownName
from chimera_lib.prion import faults
from chimera_lib.prion.experiment import Setting, default_rate


def test_the_cascade_mends_one_fault_at_a_time() -> None:
    steps = faults.cascade()
    assert steps[0] == ("as published", faults.PUBLISHED)
    assert steps[-1][1] == faults.CORRECTED
    counts = [len(one.present) for _, one in steps]
    assert counts == list(range(len(faults.NAMES), -1, -1))


@pytest.mark.parametrize("name", faults.NAMES)
def test_each_can_be_mended_and_brought_back_alone(name: str) -> None:
    assert faults.CORRECTED.having(name).present == (name,)
    assert name not in faults.PUBLISHED.without(name).present
    assert faults.PUBLISHED.without(name).having(name) == faults.PUBLISHED


def test_an_unknown_fault_is_named() -> None:
    with pytest.raises(UnknownName, match="tripple_shift"):
        faults.PUBLISHED.without("tripple_shift")


def test_what_is_called_adamw_is_adafactor_and_controls_are_sgd() -> None:
    published = Setting(faults=faults.PUBLISHED)
    assert published.method == "adafactor"
    assert Setting(faults=faults.PUBLISHED.without("adafactor")).method == "adamw"
    assert Setting(treatment="gaussian_noise", faults=faults.PUBLISHED).method == "sgd"
    assert Setting(treatment="gaussian_noise", optimizer="adafactor").method == "adafactor"
    assert Setting(optimizer="sgd", faults=faults.PUBLISHED).method == "sgd"


def test_the_rate_grows_with_size_only_where_that_fault_is_in() -> None:
    assert default_rate("1b", faults.PUBLISHED) == 2 * default_rate("410m", faults.PUBLISHED) == 2e-4
    assert default_rate("1b") == default_rate("410m") == 1e-4
    assert Setting(treatment="sham").rate == 0
