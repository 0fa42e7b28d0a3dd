"""JSON Lines logs of the ``chimera ternary`` commands: one record a line, always with the same fields.

A record holds every field of its schema; a field that has no meaning there is null, as is a number that is not finite
(JSON has none). Lines are appended and flushed one by one, so that a killed run keeps all that it had written.
"""

from __future__ import annotations

import datetime
import json
import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

RECORD_TYPES = ("step", "batch", "epoch", "eval", "final", "summary")
SHARES = ("zero_ratio", "plus_ratio", "minus_ratio", "effective_bits")
BASE = (
    *("run_id", "script", "mode", "record_type", "seed", "init_seed", "step", "loss", "gamma", "alpha"),
    *SHARES,
    *("alpha_used", "lr", "optimizer_name", "target_bits", "stat_mode", "rho_s", "rho_psi", "lambda_gate"),
    *("kappa_min", "kappa_max", "timestamp_utc"),
)
RESNET = (
    *BASE,
    *("epoch", "batch_idx", "split", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "activation"),
    *(f"global_{name}" for name in SHARES),
    *(f"unweighted_mean_{name}" for name in SHARES),
    *("target_branch", "target_zero_ratio", "controller_frequency", "controller_affects", "controller_error"),
    *("controller_update_delta", "alpha_used_mean", "alpha_target_mean", "alpha_control_mean", "alpha_next_mean"),
    *("step_time_ms", "step_time_ms_after_warmup"),
)
OPTIMIZER = (
    *BASE,
    *("problem", "sparsity", "noise_scale", "step_time_ms", "step_time_ms_after_warmup"),
    *("optimizer_state_bytes", "psi_state_bytes", "psi_memory_ratio_vs_fp32"),
    *("zero_gradient_policy", "cross_gate_policy", "psi_storage_policy", "agreement_policy", "neutral_policy"),
    *("kappa_mean", "kappa_std", "noise_ratio_mean", "effective_lr_mean", "active_effective_lr_mean"),
    *("update_norm", "update_parameter_ratio", "update_mean_abs", "update_max_abs", "zero_gradient_ratio"),
    *("active_ratio", "psi_mean_abs", "psi_saturation", "collision_score"),
)
SCHEMAS = {"base": BASE, "resnet": RESNET, "optimizer": OPTIMIZER}


class Log:
    """A log of one run of one command; a context manager.

    Args:
        path: the file to append to, made with its folders where missing; None writes nothing.
        script: the command, e.g. ``"compare-optimizers"``.
        schema: ``"base"``, ``"resnet"`` or ``"optimizer"``: which fields a record has.
        run_id: what all records of the run carry; drawn where None.

    Raises:
        ChimeraError: ``path`` cannot be written to.
    """

    def __init__(
        self, path: Path | str | None, script: str, *, schema: str = "base", run_id: str | None = None
    ) -> None:
        self.script, self.fields = script, SCHEMAS[schema]
        self.run_id = run_id or uuid.uuid4().hex[:12]
        self._file = None
        if path is not None:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                end_last_line(Path(path))
                self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115  (open as long as the log is)
            except OSError as error:
                raise ChimeraError(f"--log-jsonl {path}: {error.strerror}; name a file that can be written") from error

    @property
    def open(self) -> bool:
        """Whether records go anywhere: what is dear to compute for them may be left out otherwise."""
        return self._file is not None

    def write(self, record_type: str, **values: Any) -> dict[str, Any]:
        """Append a record, and return it.

        Args:
            record_type: one of ``RECORD_TYPES``.
            values: fields of the schema; those left out are null.

        Raises:
            KeyError: a field that the schema does not have, or an unknown record type.
        """
        if record_type not in RECORD_TYPES:
            raise KeyError(f"record_type {record_type!r}: expected one of {', '.join(RECORD_TYPES)}")
        own = {
            "run_id": self.run_id,
            "script": self.script,
            "record_type": record_type,
            "timestamp_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        }
        strange = values.keys() - set(self.fields) | values.keys() & own.keys()
        if strange:
            raise KeyError(f"{sorted(strange)}: no fields of a {self.script} record that a caller sets")
        record = {name: _plain({**values, **own}.get(name)) for name in self.fields}
        if self._file is not None:
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        return record

    def close(self) -> None:
        """Close the file; what is written afterwards goes nowhere."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path | str) -> list[dict[str, Any]]:
    """The records of a log; a last line that a killed process left half written is left out.

    Raises:
        ChimeraError: the file is missing, or a line before the last is no JSON object.
    """
    if not Path(path).is_file():
        raise ChimeraError(f"no log at {path}: write one with --log-jsonl {path}")
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise ChimeraError(f"{path}, line {number}, is no JSON ({error}): delete that line") from error
        if not isinstance(record, dict):
            raise ChimeraError(f"{path}, line {number}, holds no JSON object: this is no log of chimera ternary")
        records.append(record)
    return records


def optimizer_fields(group: Mapping[str, Any]) -> dict[str, Any]:
    """The log fields that say how an optimizer's parameter group is set; null for an option that it does not have."""
    low, high = group.get("kappa", (None, None))
    named = {"lr": group.get("lr"), "rho_psi": group.get("rho_psi"), "lambda_gate": group.get("lambda_gate")}
    return {**named, "kappa_min": low, "kappa_max": high}


def policy_fields(group: Mapping[str, Any]) -> dict[str, Any]:
    """The log fields that name the gate's policies; null for an optimizer that has no gate."""
    named = {"zero_gradient_policy": "zero_gradient", "cross_gate_policy": "cross_gate"}
    named |= {"psi_storage_policy": "psi_storage", "agreement_policy": "agreement", "neutral_policy": "neutral"}
    return {field: group.get(option) for field, option in named.items()}


def end_last_line(path: Path) -> None:
    """Cut off a last line that a killed process left without its end, so that the next record stands by itself."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    """Turn tensors and numpy scalars of one element into numbers, and what is not finite into None."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
