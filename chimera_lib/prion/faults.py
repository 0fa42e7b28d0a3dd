"""What is wrong with the published experiment, each fault a switch of its own.

`PUBLISHED` has all of them, `CORRECTED` none. The order of the fields is the order in which the book mends them one
after another; any of them can be mended, or brought back, alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from chimera_lib.errors import UnknownName


@dataclass(frozen=True)
class Faults:
    """Which faults a run has.

    Attributes:
        double_shift: labels are shifted by the code and again by the model, in training and in the perplexity of the
            five sentences; the perplexity of the held-out text never has it.
        adafactor: what is called AdamW is Adafactor with a fixed rate.
        plain_controls: controls are trained with plain SGD at the same rate, which moves the weights far less.
        fresh_controls: controls see new data at each step, while the treatment repeats one sequence.
        unmatched_noise: Gaussian noise has a standard deviation of 0.1, whatever the embeddings have.
        one_text_seed: the random text is the same in all runs.
        early_stop: the treatment ends when its rank, measured on the catalyst, has halved.
        five_sentences: perplexity and rank are taken of five sentences; for the rank each is padded to 128 positions,
            nothing is centred, and small singular values are dropped.
        rate_by_size: models of a billion parameters and more are given twice the learning rate.
        absolute: the headline is the mean of the absolute changes.
        sharp_end: the catalyst goes for the sharpest directions, not the flattest, as the published search (a power
            iteration) ends there; here rho is maximised by the optimiser that otherwise minimises it.
        unused_directions: the catalyst never looks at the directions: it is 50 steps up the loss, snapped to tokens.
    """

    double_shift: bool = False
    adafactor: bool = False
    plain_controls: bool = False
    fresh_controls: bool = False
    unmatched_noise: bool = False
    one_text_seed: bool = False
    early_stop: bool = False
    five_sentences: bool = False
    rate_by_size: bool = False
    absolute: bool = False
    sharp_end: bool = False
    unused_directions: bool = False

    def without(self, *names: str) -> Faults:
        """The same with these faults mended. Raises UnknownName."""
        return replace(self, **{_known(name): False for name in names})

    def having(self, *names: str) -> Faults:
        """The same with these faults brought in. Raises UnknownName."""
        return replace(self, **{_known(name): True for name in names})

    @property
    def present(self) -> tuple[str, ...]:
        """The names of the faults that are there, in the order of the fields."""
        return tuple(name for name in NAMES if getattr(self, name))


NAMES = tuple(field.name for field in fields(Faults))


def _known(name: str) -> str:
    if name not in NAMES:
        raise UnknownName("fault", name, NAMES)
    return name


CORRECTED = Faults()
PUBLISHED = CORRECTED.having(*NAMES)
ARMS = {"as_published": PUBLISHED, "corrected": CORRECTED}


def cascade() -> list[tuple[str, Faults]]:
    """From the published experiment to the corrected one, a fault less at each step; the first has none mended."""
    steps = [("as published", PUBLISHED)]
    for name in NAMES:
        steps.append((name, steps[-1][1].without(name)))
    return steps
