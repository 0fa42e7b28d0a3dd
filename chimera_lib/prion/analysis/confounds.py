"""What else differs between the groups than what they are named after, in sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chimera_lib.prion.analysis import describe, movement
from chimera_lib.prion.analysis.runs import PERPLEXITY_POST, RANK_REDUCTION, counted, values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chimera_lib.prion.analysis.runs import RunResult

    Groups = Mapping[str, Sequence[RunResult]]

MATCHED = 0.1  # nats by which models of matched loss may differ before anything is done to them
MOVED = 2.0  # times further that one group's weights may move than another's


def warnings(priority: int, groups: Groups) -> list[str]:
    """Say what is confounded with the factor of a priority, and what else a reader of its numbers has to know."""
    good = {name: counted(members) for name, members in groups.items() if counted(members)}
    found: list[str] = []
    found += _differing(good, "learning rate", lambda run: run.learning_rate and f"{run.learning_rate:g}")
    if priority == 1:
        found += _baseline(good)
    if priority != 3:
        found += _differing(good, "optimizer", lambda run: run.optimizer)
    if priority == 2:
        found += _repetition(good)
    if priority == 3:
        found += _movement(good)
    found += _differing(
        good, "tuning", lambda run: {"full": "full fine-tuning", "lora": "LoRA"}.get(run.tuning, run.tuning)
    )
    return found + _published(good) + _data(good)


def _differing(groups: Groups, what: str, read: Callable[[RunResult], str | float | None]) -> list[str]:
    """A sentence where the groups do not all have one value of something that should be held."""
    seen = {name: tuple(sorted({str(v) for run in runs if (v := read(run))})) for name, runs in groups.items()}
    known = {name: had for name, had in seen.items() if had}
    if len(set(known.values())) < 2:
        mixed = next((had for had in known.values() if len(had) > 1), None)
        return [f"runs of one group differ in {what} ({', '.join(mixed)})"] if mixed else []
    having = {had: [name for name, one in known.items() if one == had] for had in known.values()}
    said = "; ".join(f"{', '.join(had)} in {', '.join(members)}" for had, members in having.items())
    return [f"{what} differs between the groups ({said}): its effect cannot be told from theirs"]


def _baseline(groups: Groups) -> list[str]:
    """Where models start from different losses, size is also that."""
    starts = {}
    for name, runs in groups.items():
        logged = values(runs, "baseline_log_perplexity")
        plain = [math.log(value) for value in values(runs, "baseline_perplexity") if value > 0]
        if logged or plain:
            starts[name] = float(np.mean(logged or plain))
    if len(starts) < 2 or max(starts.values()) - min(starts.values()) <= MATCHED:
        return []
    said = ", ".join(f"{name} {value:.2f}" for name, value in starts.items())
    return [f"the models start from different log-perplexities ({said} nats): size is confounded with loss"]


def _repetition(groups: Groups) -> list[str]:
    """Where some treatments repeat one sequence and others draw fresh ones."""
    known = {name: runs[0].repeats for name, runs in groups.items() if runs[0].repeats is not None}
    if len(set(known.values())) < 2:
        return []
    same, fresh = ([name for name, repeats in known.items() if repeats is kind] for kind in (True, False))
    return [
        f"repetition differs between the groups: one sequence at every step in {', '.join(same)}, "
        f"a fresh one in {', '.join(fresh)}; compare with text_fixed and random_fixed"
    ]


def _movement(groups: Groups) -> list[str]:
    """Where one optimizer moves the weights further than another, or nothing says how far."""
    measured, moved = movement.by_group(groups)
    if not moved:
        return ["the weights' change is not recorded: an optimizer under which nothing happens may not have moved them"]
    if max(moved.values()) <= MOVED * min(moved.values()):
        return []
    said = ", ".join(f"{name} {value:.3g}" for name, value in moved.items())
    return [
        f"the optimizers move the weights by different {measured} ({said}): compare at equal ones before saying immune"
    ]


def _published(groups: Groups) -> list[str]:
    """What the original project's runs have in common, known from its code."""
    runs = [run for members in groups.values() for run in members]
    found = []
    if any(run.double_shift for run in runs):
        found.append("perplexities are of labels shifted twice (they judge the token two places on): compare with care")
    if any(run.optimizer == "adamw" and run.method == "adafactor" for run in runs):
        found.append("what these runs call AdamW is Adafactor with a fixed step")
    lengths = {id(run): value for run in runs if (value := run.metric("final_iterations")) is not None}
    early = sum(value < max(lengths.values()) for value in lengths.values())
    if early:
        found.append(f"{early} of {len(lengths)} runs took fewer steps than the others: they stopped early")
    return found


def _data(groups: Groups) -> list[str]:
    found = []
    for name, runs in groups.items():
        still = all(run.learning_rate == 0 for run in runs)  # a sham is meant to change nothing
        if describe.repeated(values(runs, RANK_REDUCTION)) and not still:
            found.append(f"the {len(runs)} runs of {name} gave one and the same value: their seed did nothing, n is 1")
        lost = sum(PERPLEXITY_POST in run.metrics and run.metric(PERPLEXITY_POST) is None for run in runs)
        if lost:
            found.append(
                f"{lost} of {len(runs)} runs of {name} have no finite perplexity after the attack, left out of it"
            )
    return found
