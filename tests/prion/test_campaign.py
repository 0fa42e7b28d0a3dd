"""Campaigns: what is kept of finished runs, how others go on beside a run that fails, how processes share the work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import campaign, experiment, kept_runs
from chimera_lib.prion.experiment import Setting

if TYPE_CHECKING:
    from pathlib import Path

BASE = Setting(model="neox-0.3m", treatment="text_fixed", steps=8, seed=3)


def test_a_campaign_keeps_finished_runs_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "runs.jsonl"
    settings = experiment.pairs(replace(BASE, steps=2), ("text_fixed", "random_fixed"), (1, 2))
    first, failures = campaign.run(settings[:2], rows=rows, trail=(), progress=False)
    assert not failures
    with rows.open("a") as file:
        file.write('{"setting": {"model"')  # as a killed process leaves it
    done: list[Setting] = []
    run = experiment.run
    monkeypatch.setattr(campaign.experiment, "run", lambda one, **options: (done.append(one), run(one, **options))[1])
    everything, _ = campaign.run(settings, rows=rows, trail=(), progress=False)
    assert done == settings[2:]
    assert [one.setting for one in everything] == settings
    assert everything[0].after.log_perplexity == first[0].after.log_perplexity
    assert everything[0].losses == first[0].losses
    assert {one.setting for one in kept_runs.read(rows)} == set(settings), "no row is glued to the half written line"


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    rows = tmp_path / "runs.jsonl"
    wild = replace(BASE, optimizer="sgd", learning_rate=1e30, steps=8)
    found, failures = campaign.run([wild, replace(BASE, steps=1)], rows=rows, trail=(), progress=False)
    assert [one.setting.steps for one in found] == [1]
    assert [(one.setting, one.error) for one in failures] == [(wild, "Diverged")]
    assert "use a smaller learning rate" in failures[0].reason
    assert len(kept_runs.read(rows)) == 1
    with pytest.raises(ChimeraError, match=r"1 runs failed .text_fixed, seed 3"):
        raise campaign.failed(failures)


def test_rows_that_were_not_measured_along_the_way_as_asked_are_run_again(tmp_path: Path) -> None:
    rows, setting = tmp_path / "runs.jsonl", replace(BASE, steps=2)
    for trail, kept in [((), 1), ((0, 1), 2), ((0, 1), 2), ((), 2), ((0,), 2)]:
        (found,), _ = campaign.run([setting], rows=rows, trail=trail, progress=False)
        assert len(kept_runs.read(rows)) == kept
        assert set(kept_runs.along(setting, trail)) <= set(found.trail)


def test_a_run_that_stopped_early_has_all_of_its_way(tmp_path: Path) -> None:
    outcome = experiment.run(replace(BASE, steps=2), trail=(0, 2))
    stopped = replace(outcome, setting=replace(BASE, steps=100))
    assert kept_runs.followed(stopped, (0, 2, 32))
    assert not kept_runs.followed(stopped, (0, 1))


def test_rows_of_another_version_are_run_again(tmp_path: Path) -> None:
    rows = tmp_path / "runs.jsonl"
    rows.write_text('{"setting": {"faults": {}, "colour": 1}}\n{}\n3\n')
    assert kept_runs.read(rows) == []


@pytest.mark.parametrize("error", [RuntimeError("expected mixed dtype"), KeyError("x"), MemoryError()])
def test_an_error_of_any_kind_costs_one_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    run = experiment.run

    def failing(setting: Setting, **options: object) -> experiment.Outcome:
        if setting.seed == 1:
            raise error
        return run(setting, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(campaign.experiment, "run", failing)
    settings = [replace(BASE, steps=1, seed=seed) for seed in (1, 2)]
    found, failures = campaign.run(settings, trail=(), progress=False)
    assert [one.setting.seed for one in found] == [2]
    assert [one.error for one in failures] == [type(error).__name__]
    assert str(error) in failures[0].reason
    assert failures[0].reason


def test_processes_side_by_side_give_the_same() -> None:
    torch.set_num_threads(1)
    outcome = experiment.run(BASE, trail=(0, 2, 8))
    found, failures = campaign.run([BASE, replace(BASE, seed=4)], processes=2, trail=(0, 2, 8), progress=False)
    assert not failures
    assert found[0].after.log_perplexity == pytest.approx(outcome.after.log_perplexity, rel=1e-6)


def test_a_process_with_nothing_left_takes_over_from_another() -> None:
    settings = [replace(BASE, seed=seed, steps=steps) for seed in (1, 2, 3) for steps in range(6)]
    work = campaign._Work(settings, 2)
    first, second = work.owned
    taken = [(number, work.take(own)) for number, own in enumerate((first, *[second] * 7, *[first] * 3))]
    assert [one.seed for number, one in taken if number in (0, 8, 9, 10) and one] == [1] * 4
    assert {one.seed for number, one in taken[1:7] if one} == {2}, "groups are not torn apart while there are others"
    rest = []
    while (one := work.take(second)) is not None:
        rest.append(one)
    assert [one.seed for one in rest[:5]] == [3] * 5
    assert all(one.seed == 1 for one in rest[5:]), "then the end of the other's"
    last = []
    while (one := work.take(first)) is not None:
        last.append(one)
    done = [one for _, one in taken] + rest + last
    assert sorted(done, key=repr) == sorted(settings, key=repr), "each exactly once"


def test_a_killed_process_costs_one_run() -> None:
    killed = threading.Event()
    others = {process.pid for process in multiprocessing.active_children()}

    def kill_one() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed.is_set():
            for process in multiprocessing.active_children():
                if process.pid is not None and process.pid not in others:
                    time.sleep(1)  # it has been given its run by now
                    os.kill(process.pid, signal.SIGKILL)
                    killed.set()
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    settings = [replace(BASE, steps=1, seed=seed) for seed in (1, 2, 3)]
    found, failures = campaign.run(settings, processes=2, trail=(), progress=False)
    killer.join()
    assert killed.is_set()
    assert len(failures) == 1
    assert failures[0].error == "KernelDied"
    assert len(found) == 2
