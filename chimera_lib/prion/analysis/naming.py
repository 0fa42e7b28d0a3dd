"""What the names of run folders and of aggregate tables say: model, run, precision, treatment, optimizer, tuning."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

AGGREGATE = "aggregate_summary_"
PRECISIONS = ("fp32", "fp16", "bf16", "8bit", "4bit", "none")
OPTIMIZERS = ("sgd_momentum", "sgd-momentum", "adafactor", "adamw", "sgd")
TUNINGS = ("lora", "full", "fft")
TREATMENT = "eigen_prion"  # what a run was given whose name says nothing of it, as the source names its runs
OPTIMIZER = "adamw"

_PYTHIA = re.compile(r"pythia_(?P<size>[\d.]+[mb])_pythia-(?P=size)")
_RUN = re.compile(r"run(\d+)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A name, taken apart; what it does not say is empty, or None.

    Attributes:
        model: ``410m`` for ``pythia_410m_pythia-410m``, else the name itself, such as ``neox-1m``.
        run: its number, from 1; None where the name holds none.
        precision: one of `PRECISIONS`, or empty.
        treatment: what follows the precision, less optimizer and tuning; or empty.
        optimizer: one of `OPTIMIZERS`, or empty.
        tuning: ``lora``, ``full``, or empty.
    """

    model: str
    run: int | None = None
    precision: str = ""
    treatment: str = ""
    optimizer: str = ""
    tuning: str = ""

    @property
    def series(self) -> Name:
        """The name without its run: that of the aggregate table that the run belongs to."""
        return replace(self, run=None)


def parse(name: str) -> Name:
    """Take a run folder's name apart, or that of an aggregate table without ``aggregate_summary_`` and ``.csv``.

    >>> parse("pythia_410m_pythia-410m_run02_fp16_sgd")
    Name(model='410m', run=2, precision='fp16', treatment='', optimizer='sgd', tuning='')
    >>> parse("neox-1m_run03_fp32_text_fixed_adamw").treatment
    'text_fixed'
    """
    words = name.split("_")
    known = _PYTHIA.match(name)
    first = len(known.group().split("_")) if known else 1
    end = next((i for i in range(first, len(words)) if _is_mark(words[i])), first if known else len(words))
    model, rest = "_".join(words[:end]), words[end:]
    if known and model == known.group():
        model = known["size"]
    run = int(found[1]) if rest and (found := _RUN.fullmatch(rest[0])) else None
    rest = rest[1:] if run is not None else rest
    precision = rest.pop(0) if rest and rest[0] in PRECISIONS else ""
    return _with_suffix(Name(model, run, precision), "_".join(rest))


def is_published(name: str) -> bool:
    """Whether a name is of the form that the original project gives its runs."""
    return _PYTHIA.match(name) is not None


def _is_mark(word: str) -> bool:
    return word in PRECISIONS or _RUN.fullmatch(word) is not None


def _with_suffix(name: Name, suffix: str) -> Name:
    """Read ``[treatment][_tuning][_optimizer]`` from its end."""
    optimizer, suffix = _cut(suffix, OPTIMIZERS)
    tuning, suffix = _cut(suffix, TUNINGS)
    if not optimizer:
        optimizer, suffix = _cut(suffix, OPTIMIZERS)
    tuning = "full" if tuning == "fft" else tuning
    return replace(name, treatment=suffix, optimizer=optimizer.replace("-", "_"), tuning=tuning)


def _cut(text: str, endings: tuple[str, ...]) -> tuple[str, str]:
    """The ending that a text has, as whole words, and what is left of the text."""
    for ending in endings:
        if text == ending or text.endswith(f"_{ending}"):
            return ending, text[: -len(ending)].rstrip("_")
    return "", text


def short(model: str) -> str:
    """A model's name as `parse` gives it, of what a person may type: ``pythia-70m`` and ``EleutherAI/pythia-70m``."""
    last = model.rstrip("/").rpartition("/")[2]
    return last.removeprefix("pythia-") if re.fullmatch(r"pythia-[\d.]+[mb]", last) else last


def parameters(model: str) -> float | None:
    """How many parameters a model's name says it has, or None.

    >>> parameters("410m"), parameters("neox-0.3m"), parameters("1.4b"), parameters("mine")
    (410000000.0, 300000.0, 1400000000.0, None)
    """
    found = _SIZE.findall(model)
    if not found:
        return None
    number, unit = found[-1]
    return float(round(float(number) * (1e6 if unit.lower() == "m" else 1e9)))
