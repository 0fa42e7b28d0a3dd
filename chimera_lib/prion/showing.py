"""What a run shows its model: the catalyst or control that a setting asks for, made once where runs share it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chimera_lib.prion import catalysts, corpus, models
from chimera_lib.prion.catalysts import protocol

if TYPE_CHECKING:
    from chimera_lib.prion.experiment import Setting

TREATMENT, HARD = "eigen_prion", "eigen_prion_hard"
LARGE = 50_000_000  # parameters


def make(setting: Setting, loaded: models.Loaded) -> catalysts.Catalyst:
    """The catalyst or control that a setting asks for, faults considered."""
    faults, kind = setting.faults, setting.treatment
    if kind in (TREATMENT, HARD) and not faults.unused_directions:
        end = "sharp" if faults.sharp_end else "flat"
        # of a billion weights and more an accelerator holds the attack alone, see `memory.making`
        whole = (setting.model, setting.checkpoint, "cpu" if setting.lean else setting.device)
        soft = _corrected(*whole, setting.seed, setting.length, setting.catalyst_steps, end)
        # the cached catalyst is fp32, a model in half precision takes embeddings of its own type only
        return protocol.fitted(soft, loaded.model) if kind == TREATMENT else catalysts.snapped(soft, loaded.model)
    options: dict[str, Any] = {"length": setting.length, "seed": setting.seed}
    if kind == TREATMENT:
        kind, options["double_shift"] = "published", faults.double_shift
    elif kind == "gaussian_noise":
        options |= {"fresh": faults.fresh_controls, "deviation": 0.1 if faults.unmatched_noise else None}
    elif kind == "random_text" and faults.one_text_seed:
        options["seed"] = 42
    text = corpus.tokens("train", loaded.tokenizer)
    return catalysts.make(kind, loaded.model, loaded.tokenizer, text, **options)


@functools.lru_cache(maxsize=64)
def _corrected(
    model: str, checkpoint: str, device: str, seed: int, length: int, steps: int, end: str
) -> catalysts.Catalyst:
    """The corrected catalyst of a model and a seed: one for all optimizers and precisions that are compared.

    It is made on the whole model in fp32, whatever the run trains afterwards, so that these are shown the same.
    """
    whole = models.load(model, device=device, checkpoint=checkpoint)
    text = corpus.tokens("train", whole.tokenizer)
    # to save memory a larger model gives its curvature on one passage, and builds its graph anew for each product
    large = whole.parameters > LARGE
    return catalysts.make(
        TREATMENT, whole.model, whole.tokenizer, text, length=length, seed=seed, steps=steps, end=end,
        rows=1 if large else 2, keep_graph=not large,
    )  # fmt: skip
