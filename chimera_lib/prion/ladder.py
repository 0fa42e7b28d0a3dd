"""The miniature ladder: four models of Pythia's architecture, from a third of a million to eight million weights.

Each has two checkpoints. ``matched-tokens``: all have seen the same number of tokens, so that the larger are better.
``matched-loss``: each was stopped when its loss on a held-out play came down to one common value, so that size is not
also quality. `chimera_lib.prion.ladder_training` makes them; the small ones come with the package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib import assets
from chimera_lib.errors import AssetMissing, UnknownName
from chimera_lib.prion import corpus

if TYPE_CHECKING:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

CHECKPOINTS = ("matched-loss", "matched-tokens")


@dataclass(frozen=True)
class Rung:
    """The shape of one model: width, layers, attention heads, and the learning rate it is trained with."""

    width: int
    layers: int
    heads: int
    learning_rate: float


RUNGS = {
    "neox-0.3m": Rung(64, 4, 4, 4e-3),
    "neox-1m": Rung(128, 4, 4, 3e-3),
    "neox-3m": Rung(192, 6, 6, 2e-3),
    "neox-8m": Rung(320, 6, 8, 1.5e-3),
}


def config(name: str) -> GPTNeoXConfig:
    """The architecture of a rung. Raises UnknownName.

    As Pythia has it: parallel attention and feed-forward, rotary embeddings on a quarter of each head, input and
    output embeddings apart (Biderman et al., Pythia: a suite for analyzing large language models, 2023, section 2).
    """
    from transformers import GPTNeoXConfig

    if name not in RUNGS:
        raise UnknownName("model of the ladder", name, RUNGS)
    rung = RUNGS[name]
    return GPTNeoXConfig(
        vocab_size=corpus.VOCABULARY,
        hidden_size=rung.width,
        num_hidden_layers=rung.layers,
        num_attention_heads=rung.heads,
        intermediate_size=4 * rung.width,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )


def new(name: str, seed: int) -> GPTNeoXForCausalLM:
    """A rung with fresh random weights, fp32, attention in plain operations so that it has second derivatives."""
    import torch
    from transformers import GPTNeoXForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTNeoXForCausalLM._from_config(config(name), attn_implementation="eager").float()


def weights(name: str, checkpoint: str = "matched-loss") -> Path:
    """The safetensors file of a rung: the package's, or else the one that `ladder_training` left in the cache.

    Raises:
        UnknownName: there is no such rung or checkpoint.
        AssetMissing: it does not come with the package and has not been trained here; the message says how to.
    """
    if name not in RUNGS:
        raise UnknownName("model of the ladder", name, RUNGS)
    if checkpoint not in CHECKPOINTS:
        raise UnknownName("checkpoint", checkpoint, CHECKPOINTS)
    file = f"{name}-{checkpoint}.safetensors"
    for folder in (Path(str(resources.files("chimera_lib") / "weights")), cache()):
        if (folder / file).is_file():
            return folder / file
    raise AssetMissing(f"{name} ({checkpoint}) is not trained here; train it: chimera prion train --model {name}")


def card(name: str, checkpoint: str = "matched-loss") -> dict[str, Any]:
    """What is known of a checkpoint: tokens seen, loss on the development play, ... Raises as `weights` does."""
    facts: dict[str, Any] = json.loads(weights(name, checkpoint).with_suffix(".json").read_text())
    return facts


def cache() -> Path:
    """Where trained rungs go that do not come with the package."""
    return assets.root() / "prion-ladder"


def load(name: str, checkpoint: str = "matched-loss") -> tuple[GPTNeoXForCausalLM, Any]:
    """A trained rung, fp32, in evaluation mode, and its tokenizer. Raises as `weights` does."""
    import safetensors.torch

    file = weights(name, checkpoint)
    model = new(name, seed=0)
    # stored in half precision, which all weights fit
    model.load_state_dict({key: value.float() for key, value in safetensors.torch.load_file(file).items()})
    return model.eval(), corpus.ladder_tokenizer()
