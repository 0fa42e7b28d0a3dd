"""Which runs are compared in each of the four priorities: one factor differs, all others are held."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chimera_lib.errors import ChimeraError
from chimera_lib.prion.analysis import naming
from chimera_lib.prion.analysis.runs import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chimera_lib.prion.analysis.runs import RunResult

Groups = dict[str, list["RunResult"]]


@dataclass(frozen=True)
class Priority:
    """One of the source's four questions.

    Attributes:
        number: 1 to 4.
        stem: of its summary files.
        figure: name of its figure's file, without ending.
        factor: what differs between its groups.
        column: the summary's first column.
        option: the command's option that names the groups.
        order: the groups as the source lists them, ours behind; others follow by name.
        attacks: the groups that the source says collapse, the first of them found being the reference; empty: all.
        claim: what the source claims, in a sentence.
    """

    number: int
    stem: str
    figure: str
    factor: str
    column: str
    option: str
    order: tuple[str, ...]
    attacks: tuple[str, ...]
    claim: str


_CONTROLS = ("gaussian_noise", "random_tokens", "random_text", "text_fixed", "random_fixed", "sham")
PRIORITIES = {
    1: Priority(
        1, "scaling_law", "scaling_law_curve", "model", "model_name", "--models", (), (),
        "the attack lowers the rank, and the more so the larger the model",
    ),
    2: Priority(
        2, "placebo", "placebo_comparison", "treatment", "treatment", "--treatments",
        (naming.TREATMENT, f"{naming.TREATMENT}_hard", *_CONTROLS), (naming.TREATMENT, f"{naming.TREATMENT}_hard"),
        "the catalyst collapses the representation, noise and random text do not",
    ),
    3: Priority(
        3, "mechanism", "mechanism_comparison", "optimizer", "optimizer", "--optimizers",
        ("adamw", "adafactor", "sgd_momentum", "sgd"), ("adamw", "adafactor"),
        "AdamW collapses the representation, SGD leaves it as it was",
    ),
    4: Priority(
        4, "shield", "shield_matrix", "precision", "precision", "--precisions",
        ("fp16", "fp32", "bf16", "fp16-lora", "fp32-lora", "bf16-lora", "8bit", "4bit"), ("fp16", "fp32", "bf16"),
        "quantization shields: fp16 collapses, 8-bit and 4-bit are immune",
    ),
}  # fmt: skip


def level(run: RunResult, factor: str) -> str:
    """The group that a run belongs to; a precision is that of LoRA where it could be of full fine-tuning too."""
    if factor != "precision":
        return str(getattr(run, factor))
    label = run.precision or "unknown"
    return f"{label}-lora" if run.tuning == "lora" and label not in ("8bit", "4bit") else label


def split(
    runs: Sequence[RunResult],
    priority: int,
    *,
    levels: Sequence[str] | None = None,
    model: str | None = None,
    notes: list[str] | None = None,
) -> Groups:
    """Sort runs into the groups of a priority, failed ones among them.

    Where other factors differ too, the runs of one setting are taken: that of the source (eigen_prion, AdamW, fp16)
    where it is there, else the most frequent; what is left out is said in `notes`.

    Args:
        runs: of a folder.
        priority: 1 to 4.
        levels: the groups wanted, in this order; None takes all, in the order of the source.
        model: the model whose runs are compared (priorities 2 to 4); None where the folder has but one.
        notes: a sentence is appended for each thing left out.

    Raises:
        ChimeraError: no run of a group or model asked for, several models and none asked for, no run that counts, or
            runs of one group that were not made alike.
    """
    what = PRIORITIES[priority]
    notes = [] if notes is None else notes
    if what.factor != "model":
        runs = _of_model(runs, model)
    found = list(dict.fromkeys(level(run, what.factor) for run in runs))
    wanted = [_spelt(one, what.factor) for one in levels] if levels else _ordered(runs, what)
    if missing := [one for one in wanted if one not in found]:
        raise ChimeraError(
            f"{what.option} {', '.join(missing)}: no run of that {what.factor} here; found {', '.join(found)}"
        )
    chosen = [run for run in runs if level(run, what.factor) in wanted]
    for factor, preferred in (("treatment", (naming.TREATMENT,)), ("precision", ("fp16",)), ("optimizer", ("adamw",))):
        if factor == what.factor:
            continue
        # In the placebo test the optimizer may differ from group to group (in the source it does), not within one.
        separate = [[one] for one in wanted] if (what.number, factor) == (2, "optimizer") else [wanted]
        for part in separate:
            inside = [run for run in chosen if level(run, what.factor) in part]
            held = _held(inside, factor, preferred, notes)
            chosen = [run for run in chosen if run not in inside or level(run, factor) == held]
    groups = {one: [run for run in chosen if level(run, what.factor) == one] for one in wanted}
    _refuse_nothing(groups, notes)
    _refuse_mixtures(groups)
    _note_differences(groups, notes)
    return {one: members for one, members in groups.items() if members}


def reference(groups: Mapping[str, Sequence[RunResult]], priority: int) -> str | None:
    """The group that the others are compared with: the first that the source says collapses; None in priority 1."""
    return next((one for one in PRIORITIES[priority].attacks if one in groups), None)


def _of_model(runs: Sequence[RunResult], model: str | None) -> list[RunResult]:
    models = list(dict.fromkeys(run.model for run in runs))
    if model is None and len(models) > 1:
        raise ChimeraError(f"runs of several models here ({', '.join(models)}): choose one with --model")
    name = models[0] if model is None else naming.short(model)
    if name not in models:
        raise ChimeraError(f"--model {model}: no run of that model here; found {', '.join(models)}")
    return [run for run in runs if run.model == name]


def _spelt(name: str, factor: str) -> str:
    """A group's name as runs have it, of what a person may type."""
    if factor == "model":
        return naming.short(name)
    spelt = name.replace("-", "_") if factor in ("treatment", "optimizer") else name
    return naming.TREATMENT if factor == "treatment" and spelt == "none" else spelt


def _ordered(runs: Sequence[RunResult], what: Priority) -> list[str]:
    if what.factor == "model":
        sizes = {run.model: run.parameters or 0 for run in runs}
        return sorted(sizes, key=lambda model: (sizes[model], model))
    found = {level(run, what.factor) for run in runs}
    return [one for one in what.order if one in found] + sorted(found - set(what.order))


def _held(runs: Sequence[RunResult], factor: str, preferred: Sequence[str], notes: list[str]) -> str:
    """The one value of a factor whose runs are kept."""
    read: Callable[[RunResult], str] = lambda run: level(run, factor)  # noqa: E731
    counts = Counter(read(run) for run in runs)
    if not counts:
        return ""
    kept = next((one for one in preferred if one in counts), counts.most_common(1)[0][0])
    others = {one: n for one, n in counts.items() if one != kept}
    if others:
        listed = ", ".join(f"{n} of {one}" for one, n in others.items())
        notes.append(f"the runs of {factor} {kept} are compared; left out: {listed}")
    return kept


def _refuse_nothing(groups: Groups, notes: list[str]) -> None:
    for one, members in groups.items():
        if not members:
            notes.append(f"{one}: no run with the same setting as the other groups, left out")
    everyone = [run for members in groups.values() for run in members]
    if not any(not run.failed for run in everyone):
        first = everyone[0].failed if everyone else "none of one setting"
        raise ChimeraError(f"none of the {len(everyone)} runs counts (the first: {first}): nothing to summarise")


def _refuse_mixtures(groups: Groups) -> None:
    """Refuse to average runs of several settings, or one draw twice. Raises ChimeraError."""
    way = "analyse a folder with the runs of one setting"
    for group, members in groups.items():
        good = counted(members)
        for name in dict.fromkeys(name for run in good for name in run.held):
            having: dict[str, list[int]] = {}
            for run in good:
                if name in run.held:
                    having.setdefault(_shown(run.held[name]), []).append(run.run)
            if len(having) > 1:
                said = ", ".join(f"{value} in run {' '.join(map(str, runs))}" for value, runs in having.items())
                raise ChimeraError(f"the runs of {group} differ in {name} ({said}): {way}")
        seeds = Counter(run.seed for run in good if run.seed is not None and not run.published)
        if twice := [seed for seed, n in seeds.items() if n > 1]:
            runs = " and ".join(str(run.run) for run in good if run.seed == twice[0])
            raise ChimeraError(f"runs {runs} of {group} have one seed, {twice[0]}, and would count as several: {way}")


def _note_differences(groups: Groups, notes: list[str]) -> None:
    """Say what else differs from group to group; of learning rates the warnings of the summary speak."""
    first = {name: next(iter(counted(members)), None) for name, members in groups.items()}
    held = {name: run.held for name, run in first.items() if run is not None}
    for name in dict.fromkeys(key for one in held.values() for key in one if key != "learning rate"):
        having: dict[str, list[str]] = {}
        for group, one in held.items():
            if name in one:
                having.setdefault(_shown(one[name]), []).append(group)
        if len(having) > 1:
            said = "; ".join(f"{value} in {', '.join(members)}" for value, members in having.items())
            notes.append(f"{name} differs between the groups ({said}): its effect cannot be told from theirs")


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
