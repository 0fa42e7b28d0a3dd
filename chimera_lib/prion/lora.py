"""Low-rank adapters (Hu et al., LoRA, 2021) by peft, on every linear layer within the blocks."""

from __future__ import annotations

from typing import Any

import torch

from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion.quantization import quiet

RANK = 16
ALPHA = 32  # the adapters' product counts ALPHA / rank times
TARGETS = {
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}


def targets(model_type: str) -> tuple[str, ...]:
    """The layers that get adapters in an architecture, by the last part of their names. Raises UnknownName."""
    if model_type not in TARGETS:
        raise UnknownName("architecture for LoRA", model_type, TARGETS, "or train it whole: tuning full")
    return TARGETS[model_type]


def attach(model: Any, *, rank: int = RANK, dropout: float = 0.0, seed: int = 0) -> Any:
    """A peft model around a transformers one, whose weights are frozen; only the adapters train, in fp32.

    Their product starts at zero, so that the model is unchanged.

    Args:
        model: of an architecture in `TARGETS`; changed in place.
        rank: of the adapters, at least 1.
        dropout: share of the adapters' inputs that is dropped in training; 0, so that runs differ in what is compared
            alone (the published experiment has .1).
        seed: of the adapters' random halves.

    Raises:
        UnknownName: another architecture.
        ChimeraError: a rank below 1, or a dropout outside of [0, 1).
    """
    import peft

    if rank < 1 or not 0 <= dropout < 1:
        raise ChimeraError(f"LoRA of rank {rank} with dropout {dropout}: expected at least 1, and 0 to less than 1")
    wanted = peft.LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        lora_dropout=dropout,
        target_modules=list(targets(model.config.model_type)),
        task_type="CAUSAL_LM",
    )
    devices = [torch.cuda.current_device()] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), quiet():
        torch.manual_seed(seed)
        return peft.get_peft_model(model, wanted)
