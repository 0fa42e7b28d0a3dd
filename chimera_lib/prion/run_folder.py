"""One run on disk, in the layout of the original project: a folder with its config, metrics and pictures.

A folder is made aside and moved into place when it is whole, so that one that is there under its name is a finished
run, or holds ``failed.json`` and says why it is none.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import math
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import experiment, run_reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chimera_lib.prion.experiment import Outcome, Setting
    from chimera_lib.prion.metrics import Measurement

CONFIG, METRICS, FAILED = run_reading.CONFIG, run_reading.METRICS, run_reading.FAILED
PYTHIA = ("70m", "160m", "410m", "1b", "1.4b", "2.8b")


def series(setting: Setting, *, suffix: bool) -> tuple[str, str]:
    """The two parts of a run's name, before and after its number.

    Args:
        setting: what the run does.
        suffix: name the treatment even where it is the catalyst (as priority 2 does).

    Returns:
        Such as ``("pythia_410m_pythia-410m", "fp32_eigen_prion")``.
    """
    model = setting.model
    first = f"pythia_{model}_pythia-{model}" if model in PYTHIA else Path(model).name
    parts = [setting.precision]
    if suffix or setting.treatment != experiment.TREATMENT:
        parts.append(setting.treatment)
    if setting.tuning == "lora" and setting.precision in ("fp32", "fp16", "bf16"):
        parts.append("lora")
    if setting.optimizer != "adamw":
        parts.append(setting.optimizer.replace("-", "_"))
    return first, "_".join(parts)


def folder(root: Path, setting: Setting, run: int, *, suffix: bool = False) -> Path:
    """Where a run lies below ``root``."""
    first, last = series(setting, suffix=suffix)
    return root / f"{first}_run{run:02d}_{last}"


def config(setting: Setting, run: int) -> dict[str, Any]:
    """What ``config.json`` says: the original project's three tables, and the rest of what decides the numbers."""
    plain = asdict(setting) | {"faults": list(setting.faults.present), "learning_rate": setting.rate}
    hub = f"EleutherAI/pythia-{setting.model}" if setting.model in PYTHIA else setting.model
    return {
        "model": {
            "name": f"pythia-{setting.model}" if setting.model in PYTHIA else Path(setting.model).name,
            "hf_model_id": hub,
            "use_quantization": setting.precision in ("8bit", "4bit"),
            "quantization_bits": 8 if setting.precision == "8bit" else 4,
            "use_fft": setting.tuning == "full",
        },
        "attack": {
            "num_steps": setting.steps,
            "learning_rate": setting.rate,
            "batch_size": 1,
            "catalyst_length": setting.length,
        },
        "experiment": plain | {"run": run, "method": setting.method},
    }


def is_finished(place: Path, setting: Setting, run: int) -> bool:
    """Whether a run is there, whole; one that failed, or whose files cannot be read to their end, is not.

    Raises:
        ChimeraError: it is, but of another setting; the message names the first difference.
    """
    there = run_reading.experiment(place)
    if there is None or run_reading.records(place) is None:
        return False
    wanted = json.loads(json.dumps(config(setting, run)))["experiment"]
    for name, value in wanted.items():
        if there.get(name) != value:
            raise ChimeraError(
                f"{place} holds a run with {name} {there.get(name)!r}, asked for {value!r}; "
                "choose another --output-dir, or move that folder away"
            )
    return True


def refuse_others(root: Path, setting: Setting, run: int) -> None:
    """See that a folder's finished runs have the faults, the steps and the base seed of a run that is to join them.

    Models, treatments, optimizers and precisions may differ, and with them the learning rate.

    Raises:
        ChimeraError: one has not; the message names it, the difference and the way out.
    """
    asked = run_reading.shared(json.loads(json.dumps(config(setting, run)))["experiment"])
    for place in sorted(root.glob("*")):
        there = run_reading.experiment(place)
        if there is None or place.name.startswith(".") or run_reading.records(place) is None:
            continue
        for name, value in run_reading.shared(there).items():
            if value != asked[name]:
                raise ChimeraError(
                    f"{place} holds a run with {name} {value!r}, asked for {asked[name]!r}; "
                    "choose another --output-dir, or move that folder away"
                )


def write(place: Path, outcome: Outcome, run: int) -> Path:
    """Put a finished run in its place, in one step; what lies there goes."""
    with _made_aside(place) as scratch:
        _json(scratch / CONFIG, config(outcome.setting, run) | {"parameters": outcome.parameters})
        lines = (json.dumps(line, allow_nan=True) for line in records(outcome))
        (scratch / METRICS).write_text("\n".join(lines) + "\n")
        from chimera_lib.prion.figures.run import draw

        draw(outcome, scratch)
    return place


def write_failure(place: Path, setting: Setting, run: int, error: str, reason: str) -> None:
    """Say in a run's place why it is none: the kind of error, and what it said; what lies there goes."""
    with _made_aside(place) as scratch:
        _json(scratch / CONFIG, config(setting, run))
        _json(scratch / FAILED, {"error": error, "reason": reason, "timestamp": _now()})


@contextlib.contextmanager
def _made_aside(place: Path) -> Iterator[Path]:
    """A folder to be filled, which is put in place of another when the block ends without an error."""
    scratch = place.parent / f".{place.name}.{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        if place.exists():
            shutil.rmtree(place)
        scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def records(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """The lines of ``metrics.jsonl``: the arm's own measures under the source's names, the other arm's beside them."""
    steps = outcome.setting.steps
    as_published = outcome.setting.faults.five_sentences
    for step, prefix, pair in (
        (0, "baseline", (outcome.before, outcome.published_before)),
        (steps + 1, "post_attack", (outcome.after, outcome.published_after)),
    ):
        own, other = pair[::-1] if as_published else pair
        line = {"step": step, "timestamp": _now()} | _prefixed(prefix, own)
        beside = "primary" if as_published else "published"
        line |= {f"{prefix}_{beside}_{name}": value for name, value in _short(other).items()}
        if step:
            yield from _along(outcome)
        yield line


def _along(outcome: Outcome) -> Iterator[dict[str, Any]]:
    steps = outcome.setting.steps
    for step, values in sorted(outcome.trail.items()):
        named = {f"treatment_{name}": value for name, value in values.items()}
        yield {"step": step, "timestamp": _now(), "treatment_iteration": step, **named}
    for step, rank in outcome.ranks:
        yield {"step": step, "timestamp": _now(), "treatment_iteration": step, "treatment_catalyst_rank": rank}
    yield {
        "step": steps,
        "timestamp": _now(),
        "final_iterations": len(outcome.losses),
        "final_first_loss": outcome.losses[0] if outcome.losses else None,
        "final_last_loss": outcome.losses[-1] if outcome.losses else None,
        "final_weight_change": outcome.weight_change,
        "final_relative_weight_change": outcome.relative_change,
        **{f"final_{name}": value for name, value in outcome.facts.items()},
    }


def aggregate(root: Path, setting: Setting, *, suffix: bool = False) -> Path:
    """Sum up the runs of a series in ``aggregate_summary_*.csv``; failed, broken and other settings' are left out.

    ``rank_reduction_pct`` is signed, as in the source's tables. Where the fault ``absolute`` is in, a column
    ``absolute_rank_reduction_pct`` stands beside it: what the source's summaries average.
    """
    first, last = series(setting, suffix=suffix)
    absolute = setting.faults.absolute
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["run", "baseline_rank", "post_attack_rank", "rank_reduction_pct",
                    "baseline_perplexity", "post_attack_perplexity",
                    *(["absolute_rank_reduction_pct"] if absolute else [])])  # fmt: skip
    asked = run_reading.without_seed(json.loads(json.dumps(config(setting, 0)))["experiment"])
    for place in sorted(root.glob(f"{first}_run[0-9]*_{last}")):
        number = place.name.removeprefix(f"{first}_run").removesuffix(f"_{last}")
        there, found = run_reading.experiment(place), run_reading.records(place)
        if number.isdigit() and there is not None and found is not None and run_reading.without_seed(there) == asked:
            table.writerow([int(number), *_row(found, absolute=absolute)])
    target = root / f"aggregate_summary_{first}_{last}.csv"
    partial = target.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text.getvalue())
    return partial.replace(target)


def _row(found: dict[str, Any], *, absolute: bool) -> list[str]:
    before, after = (found[name] for name in run_reading.RANKS)
    change = 100 * (1 - after / before) if before else math.nan
    perplexities = (found.get("baseline_perplexity", math.nan), found.get("post_attack_perplexity", math.nan))
    return [
        f"{before:.4f}",
        f"{after:.4f}",
        f"{change:.2f}",
        *(f"{one:.6g}" for one in perplexities),
        *([f"{abs(change):.2f}"] if absolute else []),
    ]


def _prefixed(prefix: str, measured: Measurement) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in measured.record.items()}


def _short(measured: Measurement) -> dict[str, Any]:
    return {"log_perplexity": measured.log_perplexity, "effective_rank": measured.effective_rank}


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
