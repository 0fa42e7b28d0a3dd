"""The four priorities of the source: which conditions each of them compares, in both arms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion.experiment import Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chimera_lib.prion.faults import Faults

PRECISIONS = {"none": "fp32", "fp16": "fp16", "bf16": "bf16", "8bit": "8bit", "4bit": "4bit"}

NAMES = {1: "scaling_law", 2: "placebo", 3: "mechanism", 4: "shield"}
RUNS = {1: 10, 2: 3, 3: 3, 4: 3}  # the source's numbers of runs
SIZES = ("70m", "160m", "410m", "1b")
MODELS = {2: "410m", 3: "410m", 4: "1b"}
# What a run of the corrected arm is compared with: the same repetition on real text, and on random tokens.
REPEATED = ("text_fixed", "random_fixed")


@dataclass(frozen=True)
class Condition:
    """One cell of a priority, in the words of ``chimera prion run``.

    Attributes:
        model: its name.
        quantization: none, fp16, 8bit or 4bit.
        tuning: ``--force-fft`` or ``--lora``, or empty where the precision decides.
        optimizer: its name.
        control_type: what the model is shown; ``none`` is the catalyst without a suffix in the names of its runs.
    """

    model: str
    quantization: str = "none"
    tuning: str = "--force-fft"
    optimizer: str = "adamw"
    control_type: str = "none"

    def setting(self, faults: Faults, **rest: Any) -> Setting:
        """The setting of a run; ``rest`` has its seed, learning rate and the like."""
        return Setting(
            model=self.model,
            precision=PRECISIONS[self.quantization],
            tuning="lora" if self.tuning == "--lora" or self.quantization in ("8bit", "4bit") else "full",
            optimizer=self.optimizer,
            treatment="eigen_prion" if self.control_type == "none" else self.control_type,
            faults=faults,
            **rest,
        )


def conditions(priority: int, arm: str, models: Sequence[str] = ()) -> list[Condition]:
    """The conditions of a priority.

    Args:
        priority: 1 to 4.
        arm: ``as_published`` compares what the source compared; ``corrected`` adds the controls it lacks.
        models: in priority 1 the sizes, in the others one model; default: the source's.

    Raises:
        UnknownName: there is no such priority.
        ChimeraError: several models where one is compared with itself.
    """
    if priority not in NAMES:
        raise UnknownName("priority", str(priority), map(str, NAMES))
    fair = arm == "corrected"
    if priority == 1:
        shown_to = ("none", *REPEATED) if fair else ("none",)
        return [Condition(size, control_type=shown) for size in models or SIZES for shown in shown_to]
    if len(models) > 1:
        raise ChimeraError(f"priority {priority} takes one model, got {', '.join(models)}; give --model once")
    model = models[0] if models else MODELS[priority]
    if priority == 2:
        added = ("random_tokens", *REPEATED, "sham") if fair else ()
        shown_by = ("eigen_prion", "gaussian_noise", "random_text", *added)
        return [Condition(model, control_type=shown) for shown in shown_by]
    controls = ("none", "text_fixed") if fair else ("none",)
    if priority == 3:
        optimizers = ("adamw", "sgd", "adafactor", "sgd-momentum") if fair else ("adamw", "sgd")
        return [Condition(model, optimizer=name, control_type=shown) for name in optimizers for shown in controls]
    precisions = [("none", "--force-fft"), ("8bit", ""), ("4bit", "")]
    if fair:  # full precision with the same adapters, without which precision and tuning change together
        precisions.insert(1, ("none", "--lora"))
    levels = [Condition(model, precision, tuning) for precision, tuning in precisions]
    return [replace(level, control_type=shown) for level in levels for shown in controls]
