"""Folders of results in the layout of the original project, and in ours, written from a few numbers."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from chimera_lib.prion.analysis import published

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMES = {1: "priority1_scaling_law", 2: "priority2_placebo", 3: "priority3_mechanism", 4: "priority4_shield"}
# mean rank of the five sentences before anything is done, as published, by model and precision
BASELINES = {
    ("70m", "fp16"): 3.3187,
    ("160m", "fp16"): 2.8591,
    ("410m", "fp16"): 2.3953,
    ("1b", "fp16"): 2.5515,
    ("1b", "8bit"): 2.5080,
    ("1b", "4bit"): 2.6000,
}
PERPLEXITY = 5206.920241275732  # of 410m, before
# perplexities after the attack and the ranks of priority 3, as its metrics.jsonl files have them
MECHANISM = {
    "adamw": (
        (55918.441707909056, 2.451979637145996),
        (58314.44293969015, 2.3081343173980713),
        (64184.78341001407, 2.6926162242889404),
    ),
    "sgd": (
        (13543.26877765709, 2.2689812183380127),
        (10755.573481709751, 2.420179843902588),
        (17310.40156777461, 2.4147889614105225),
    ),
}
RANK = 2.395301103591919


def write_run(
    folder: Path,
    *,
    before: float = 2.0,
    after: float | None = 1.9,
    perplexities: tuple[float, float] = (100.0, 200.0),
    config: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> Path:
    """One run folder; `after` None leaves out its last record, `more` adds to both records under their prefixes."""
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    records: list[dict[str, Any]] = [
        {"step": 0, "baseline_perplexity": perplexities[0], "baseline_effective_rank": before},
        {"step": 10, "treatment_iteration": 10, "treatment_effective_rank": 3.0},
        {"step": 100, "final_iterations": 11, "final_catalyst_tokens": ["a"]},
    ]
    if after is not None:
        records.append({"step": 101, "post_attack_perplexity": perplexities[1], "post_attack_effective_rank": after})
    for name, (first, last) in (more or {}).items():
        records[0][f"baseline_{name}"] = first
        records[-1][f"post_attack_{name}"] = last
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return folder


def write_table(folder: Path, series: str, rows: Sequence[tuple[int, float, float, float]]) -> Path:
    """An aggregate table as the source writes it: run, ranks before and after, change."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{run},{before:.4f},{after:.4f},{change:.2f}" for run, before, after, change in rows]
    path = folder / f"aggregate_summary_{series}.csv"
    path.write_text("\n".join(["run,baseline_rank,post_attack_rank,rank_reduction_pct", *lines]) + "\n")
    return path


def source_config(rate: float = 1e-4, *, full: bool = True) -> dict[str, Any]:
    """A config.json as the source writes it."""
    return {
        "model": {"name": "pythia-x", "use_quantization": not full, "quantization_bits": 4, "use_fft": full},
        "attack": {"num_steps": 100, "learning_rate": rate},
        "hvp": {"null_space_threshold": 1e-06},
    }


def published_folder(root: Path, priority: int, *, rate: float = 1e-4, tables: bool = True) -> Path:
    """The folder of a priority from the published changes of rank; `rate` is that of 1b in priority 1."""
    place = root / NAMES[priority]
    tabled: dict[str, list[tuple[int, float, float, float]]] = {}
    for members in published.groups(priority, rate=rate).values():
        for run in members:
            first = f"pythia_{run.model}_pythia-{run.model}"
            last = run.precision + (f"_{run.treatment}" if priority == 2 else "")
            last += "_sgd" if priority == 3 and run.optimizer == "sgd" else ""
            before = BASELINES[run.model, run.precision]
            change = run.metrics["rank_reduction_pct"]
            after = before * (1 - change / 100)
            write_run(
                place / "raw_data" / f"{first}_run{run.run:02d}_{last}",
                before=before,
                after=after,
                perplexities=(PERPLEXITY, PERPLEXITY * math.exp(run.run / 5)),
                config=source_config(run.learning_rate or 0, full=run.tuning == "full"),
            )
            tabled.setdefault(f"{first}_{last}", []).append((run.run, before, after, change))
    for series, rows in tabled.items() if tables else ():
        write_table(place / "raw_data", series, rows)
    return place


def mechanism_folder(root: Path, *, tables: bool = True) -> Path:
    """Priority 3 with its published perplexities and unrounded ranks."""
    place = root / NAMES[3] / "raw_data"
    for optimizer, runs in MECHANISM.items():
        last = "fp16" + "_sgd" * (optimizer == "sgd")
        rows = []
        for run, (perplexity, after) in enumerate(runs, 1):
            path = place / f"pythia_410m_pythia-410m_run{run:02d}_{last}"
            write_run(path, before=RANK, after=after, perplexities=(PERPLEXITY, perplexity), config=source_config())
            rows.append((run, RANK, after, 100 * (1 - after / RANK)))
        if tables:
            write_table(place, f"pythia_410m_pythia-410m_{last}", rows)
    return place


def our_run(root: Path, model: str, run: int, last: str, **settings: Any) -> Path:
    """A run folder of ours: settings are those of its config, but `before`, `after`, `logs`, `moved`."""
    before, after = settings.pop("before", 30.0), settings.pop("after", 29.0)
    logs, moved = settings.pop("logs", (4.0, 4.5)), settings.pop("moved", 1.0)
    plain = {"treatment": "eigen_prion", "optimizer": "adamw", "precision": "fp32", "tuning": "full", "faults": []}
    config = {"experiment": plain | {"model": model, "seed": 42 + run, "learning_rate": 1e-3} | settings}
    more = {"log_perplexity": logs, "participation_ratio": (10.0, 9.0), "weight_rank": (math.nan, math.nan)}
    path = write_run(
        root / f"{model}_run{run:02d}_{last}",
        before=before,
        after=after,
        perplexities=(math.exp(logs[0]), math.exp(logs[1])),
        config=config,
        more=more,
    )
    with (path / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"step": 100, "final_weight_change": moved}) + "\n")
    return path
