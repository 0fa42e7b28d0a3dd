"""One run of the experiment: measure a model, train it on a catalyst or a control, measure it again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion import attack, batches, corpus, metrics, models, out_of_memory, pythia, showing
from chimera_lib.prion.faults import CORRECTED, Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

TREATMENT, HARD = showing.TREATMENT, showing.HARD
CONTROLS = ("gaussian_noise", "random_tokens", "random_text", "text_fixed", "random_fixed", "sham")
TREATMENTS = (TREATMENT, HARD, *CONTROLS)
REPEATED = (TREATMENT, HARD, "gaussian_noise", "text_fixed", "random_fixed")
"""Those that show the same sequence at each step (Gaussian noise does so unless the fault ``fresh_controls`` is on)."""
BILLIONS = ("1b", "1.4b", "2.8b")  # sizes of Pythia
CONTEXT, PASSAGES = 128, 16  # held-out tokens a passage, passages: 2,048 positions
TRAIL = (0, 4, 8, 16, 32, 64, 100)


@dataclass(frozen=True)
class Setting:
    """What one run does.

    Attributes:
        model: a name that `models.load` knows, or a folder.
        treatment: a name of `TREATMENTS`.
        optimizer: ``adamw``, ``adafactor``, ``sgd`` or ``sgd-momentum``.
        learning_rate: None takes `default_rate`.
        steps: fine-tuning steps.
        length: tokens of the catalyst.
        seed: of the catalyst, of the controls' data and of LoRA's first weights.
        precision, tuning: as `models.load` takes them.
        faults: which faults of the published experiment are in.
        catalyst_steps: optimisation steps of the corrected catalyst.
        checkpoint: of a model of the ladder.
        device: where to run.
    """

    model: str = "neox-1m"
    treatment: str = TREATMENT
    optimizer: str = "adamw"
    learning_rate: float | None = None
    steps: int = attack.STEPS
    length: int = 64
    seed: int = 43
    precision: str = "fp32"
    tuning: str = "full"
    faults: Faults = CORRECTED
    catalyst_steps: int = 100
    checkpoint: str = "matched-loss"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.treatment not in TREATMENTS:
            raise UnknownName("treatment", self.treatment, TREATMENTS)
        if self.steps < 0 or self.length < 3:
            raise ChimeraError(f"{self.steps} steps of {self.length} tokens: expected 0 or more of 3 or more")
        if self.treatment == HARD and self.faults.unused_directions:
            raise ChimeraError(
                f"{HARD} with the fault unused_directions: expected {TREATMENT}, as that fault's catalyst is tokens "
                "already; or mend the fault (--mend unused_directions)"
            )

    @property
    def rate(self) -> float:
        """The learning rate that the run is given."""
        if self.treatment == "sham":
            return 0.0
        return default_rate(self.model, self.faults) if self.learning_rate is None else self.learning_rate

    @property
    def lean(self) -> bool:
        """Whether memory is saved at the price of time: from a billion parameters on."""
        return _billions(self.model)

    @property
    def method(self) -> str:
        """The optimizer that the run really uses, faults considered."""
        if self.faults.plain_controls and self.treatment in CONTROLS:
            return "sgd"
        return "adafactor" if self.faults.adafactor and self.optimizer == "adamw" else self.optimizer


@dataclass(frozen=True)
class Outcome:
    """What one run measured.

    Attributes:
        setting: what it did.
        before, after: the primary measures.
        published_before, published_after: those of the published experiment on the same two models.
        losses: on what was shown, before each step.
        weight_change, relative_change: norm of the change of the weights, and over the norm of the weights.
        trail: measures along the way, by the number of steps taken (see `watch`).
        ranks: rank on the catalyst, as the published experiment follows it.
        facts: what else is known of the catalyst, such as its rho.
        parameters: how many the model has.
    """

    setting: Setting
    before: metrics.Measurement
    after: metrics.Measurement
    published_before: metrics.Measurement
    published_after: metrics.Measurement
    losses: tuple[float, ...]
    weight_change: float
    relative_change: float
    trail: dict[int, dict[str, float]] = field(default_factory=dict)
    ranks: tuple[tuple[int, float], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0

    @property
    def log_perplexity_change(self) -> float:
        """Primary: change of the held-out log-perplexity, nats; positive is worse."""
        return self.after.log_perplexity - self.before.log_perplexity

    @property
    def rank_reduction(self) -> float:
        """Primary: reduction of the effective rank, per cent of the rank before, signed; negative where it rose."""
        return reduction(self.before, self.after)

    @property
    def headline(self) -> float:
        """The rank reduction that the experiment would report with its faults, per cent; absolute where that is one."""
        pair = (self.published_before, self.published_after) if self.setting.faults.five_sentences else None
        value = reduction(*pair) if pair else self.rank_reduction
        return abs(value) if self.setting.faults.absolute else value


def reduction(before: metrics.Measurement, after: metrics.Measurement) -> float:
    """Reduction of the effective rank, per cent of the rank before, signed."""
    return 100 * (1 - after.effective_rank / before.effective_rank)


def default_rate(model: str, faults: Faults = CORRECTED) -> float:
    """1e-4 as published (2e-4 from a billion parameters on, where that fault is in); 1e-3 for the miniature ladder."""
    if model.startswith("neox-"):
        return 1e-3
    return 2e-4 if faults.rate_by_size and _billions(model) else 1e-4


def _billions(model: str) -> bool:
    """Whether this is a size of Pythia of a billion parameters or more, by whichever of its names."""
    return pythia.size_of(model) in BILLIONS


def run(
    setting: Setting,
    *,
    trail: tuple[int, ...] = (),
    weights: bool = False,
    on_stage: Callable[[str], object] | None = None,
) -> Outcome:
    """Do one run.

    Args:
        setting: what to do.
        trail: numbers of steps after which to measure as well, see `watch`.
        weights: take the effective rank of the weight matrices too, before and after.
        on_stage: told what begins: ``model``, ``baseline``, ``catalyst``, ``attack``, ``measure``.

    Raises:
        ChimeraError: the model cannot be had (`UnknownName`, `AssetMissing`), it diverged (`Diverged`), memory
            ran out; the message says what to change.
    """
    tell = on_stage or (lambda _: None)
    with torch.random.fork_rng(devices=[]), out_of_memory.named(f"{setting.model}, {setting.treatment}"):
        torch.manual_seed(setting.seed)
        tell("model")
        loaded = models.load(
            setting.model,
            precision=setting.precision,
            tuning=setting.tuning,
            seed=setting.seed,
            device=setting.device,
            checkpoint=setting.checkpoint,
            checkpointing=setting.lean,
        )
        tell("baseline")
        held_out = corpus.passages(corpus.tokens("test", loaded.tokenizer), length=CONTEXT, count=PASSAGES)
        shift = setting.faults.double_shift
        before = metrics.measure(loaded.model, held_out, weights=weights)
        published_before = metrics.measure_as_published(loaded.model, loaded.tokenizer, double_shift=shift)
        tell("catalyst")
        shown = showing.make(setting, loaded)
        tell("attack")
        measured = {0: before}  # by the number of steps taken

        def follow(step: int, model: nn.Module, moved: attack.Displacement) -> dict[str, float]:
            if step not in measured:
                measured[step] = metrics.measure(model, held_out, weights=weights and step == setting.steps)
            return watch(model, moved, shown.batch(0), measured[step])

        done = attack.attack(
            loaded.model,
            shown,
            optimizer=setting.method,
            learning_rate=setting.rate,
            steps=setting.steps,
            double_shift=shift,
            early_stop=setting.faults.early_stop and setting.treatment == TREATMENT,
            lean=setting.lean,
            watch=follow,
            watch_at=trail,
        )
        tell("measure")
        return Outcome(
            setting=setting,
            before=before,
            after=measured.get(len(done.losses)) or metrics.measure(loaded.model, held_out, weights=weights),
            published_before=published_before,
            published_after=metrics.measure_as_published(loaded.model, loaded.tokenizer, double_shift=shift),
            losses=done.losses,
            weight_change=done.weight_change,
            relative_change=done.relative_change,
            trail=done.trail,
            ranks=done.ranks,
            facts=dict(shown.facts),
            parameters=loaded.parameters,
        )


def watch(
    model: nn.Module, moved: attack.Displacement, batch: batches.Batch, measured: metrics.Measurement
) -> dict[str, float]:
    """The measures along the way: weight change, loss on the first batch shown, held-out log-perplexity, rank."""
    with torch.no_grad():
        own = batches.loss(model, batch).item()
    return {
        "weight_change": moved.norm(),
        "loss": own,
        "log_perplexity": measured.log_perplexity,
        "effective_rank": measured.effective_rank,
    }


def pairs(base: Setting, treatments: tuple[str, ...], seeds: tuple[int, ...]) -> list[Setting]:
    """A setting for each treatment and seed, everything else equal."""
    return [replace(base, treatment=treatment, seed=seed) for treatment in treatments for seed in seeds]
