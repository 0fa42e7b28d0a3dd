"""Logs of the ternary commands: stable fields, whole lines, no number that JSON cannot say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from chimera_lib.errors import ChimeraError
from chimera_lib.ternary.experiments import log
from chimera_lib.ternary.optimizers import build

if TYPE_CHECKING:
    from pathlib import Path

SHARED = "run_id script mode record_type seed init_seed step loss gamma alpha zero_ratio plus_ratio minus_ratio"
SHARED += " effective_bits alpha_used lr optimizer_name target_bits stat_mode rho_s rho_psi lambda_gate kappa_min"
SHARED += " kappa_max timestamp_utc"
OF_RESNET = "epoch batch_idx split train_loss train_accuracy test_loss test_accuracy global_zero_ratio"
OF_RESNET += " unweighted_mean_zero_ratio target_branch target_zero_ratio controller_frequency controller_affects"
OF_RESNET += " controller_error controller_update_delta alpha_used_mean alpha_target_mean alpha_control_mean"
OF_RESNET += " alpha_next_mean"
OF_OPTIMIZER = "problem step_time_ms optimizer_state_bytes psi_state_bytes psi_memory_ratio_vs_fp32"


@pytest.mark.parametrize(("schema", "more"), [("base", ""), ("resnet", OF_RESNET), ("optimizer", OF_OPTIMIZER)])
def test_every_record_has_the_published_fields(tmp_path: Path, schema: str, more: str) -> None:
    with log.Log(tmp_path / "deep" / "a.jsonl", "some-command", schema=schema) as lines:
        lines.write("step", seed=0, step=1, loss=torch.tensor(0.5))
        lines.write("summary")
    first, second = (json.loads(line) for line in (tmp_path / "deep" / "a.jsonl").read_text().splitlines())
    assert list(first) == list(second)
    assert {*SHARED.split(), *more.split()} <= set(first)
    assert (first["loss"], first["script"], second["record_type"], second["loss"]) == (
        0.5,
        "some-command",
        "summary",
        None,
    )
    assert first["run_id"] == second["run_id"] and first["timestamp_utc"].endswith("+00:00")


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    with log.Log(tmp_path / "a.jsonl", "x") as lines:
        assert lines.write("step", loss=float("nan"), lr=torch.tensor(float("inf")))["loss"] is None
    assert log.read(tmp_path / "a.jsonl")[0]["lr"] is None


def test_a_second_run_appends_under_an_id_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        with log.Log(tmp_path / "a.jsonl", "x") as lines:
            lines.write("final")
    one, two = log.read(tmp_path / "a.jsonl")
    assert one["run_id"] != two["run_id"]


def test_a_line_cut_by_a_kill_is_left_out_and_not_written_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with log.Log(path, "x") as lines:
        lines.write("step", step=1)
    path.write_bytes(path.read_bytes() + b'{"run_id": "ab')
    assert [r["step"] for r in log.read(path)] == [1]
    with log.Log(path, "x") as lines:
        lines.write("step", step=2)
    assert [r["step"] for r in log.read(path)] == [1, 2]


def test_strange_fields_and_types_are_refused(tmp_path: Path) -> None:
    with log.Log(None, "x") as lines:
        for call in ({"colour": 1}, {"problem": "saddle"}, {"run_id": "mine"}):
            with pytest.raises(KeyError, match="no fields"):
                lines.write("step", **call)
        with pytest.raises(KeyError, match="expected one of step"):
            lines.write("minute")


def test_unreadable_logs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ChimeraError, match="no log at"):
        log.read(tmp_path / "none.jsonl")
    for text, said in (("{]\n{}\n", "line 1, is no JSON"), ("3\n", "holds no JSON object")):
        (tmp_path / "bad.jsonl").write_text(text)
        with pytest.raises(ChimeraError, match=said):
            log.read(tmp_path / "bad.jsonl")
    with pytest.raises(ChimeraError, match="name a file that can be written"):
        log.Log(tmp_path, "x")


def test_fields_of_an_optimizer_are_null_where_it_has_no_gate() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    gated = build("chimera21", [weight], 0.1).param_groups[0]
    plain = build("adamw", [weight], 0.1).param_groups[0]
    fields = ("lr", "rho_psi", "lambda_gate", "kappa_min", "kappa_max")
    assert log.optimizer_fields(gated) == dict(zip(fields, (0.1, 0.95, 0.1, 0.5, 2.0), strict=True))
    assert log.optimizer_fields(plain) == dict(zip(fields, (0.1, None, None, None, None), strict=True))
    assert log.policy_fields(gated)["psi_storage_policy"] == "fp32"
    assert set(log.policy_fields(plain).values()) == {None}
