"""Weights of 8 and 4 bits by bitsandbytes: what to load them with, the trap of some processors, and undoing them.

8 bits: int8 with one scale a row (Dettmers et al., LLM.int8(), 2022). 4 bits: NormalFloat with nested scales (Dettmers
et al., QLoRA, 2023). The output layer, the embeddings and the norms stay in fp32, and products are computed in fp32,
so that a comparison with fp32 LoRA differs in the weights alone.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from transformers import BitsAndBytesConfig

QUANTISED = ("8bit", "4bit")
OUTLIER = 6.0  # an input column with a larger value is multiplied in full precision (8 bits), the paper's threshold


def config(precision: str) -> BitsAndBytesConfig:
    """What `from_pretrained` takes to load ``"8bit"`` or ``"4bit"`` weights."""
    from transformers import BitsAndBytesConfig

    with quiet():
        if precision == "8bit":
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIER)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )


def keep_differentiable(model: nn.Module) -> int:
    """Switch the packed 4-bit kernel of some processors off in every layer; returns how many layers that were.

    Where the processor has avx512_bf16, bitsandbytes repacks a layer's weight at the first forward pass in evaluation
    mode whose input takes no gradient, for good, for a kernel that autograd does not see. Later backward passes then
    stop at the layer: without biases (Llama) they return wrong gradients, with biases (GPT-NeoX) they raise. Call this
    right after loading, before anything is computed.
    """
    layers = [layer for layer in model.modules() if type(layer).__name__ == "Linear4bit"]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return len(layers)


def prepare(model: Any) -> Any:
    """Freeze a quantised model and make it ready for adapters (peft's `prepare_model_for_kbit_training`)."""
    import peft

    with quiet():
        return peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The quantised layers by their names in the model."""
    kinds = ("Linear4bit", "Linear8bitLt")  # by name: peft has classes of the same names that wrap these
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer).__name__ in kinds and isinstance(layer, nn.Linear)
    }


def dequantised(layer: Any) -> Tensor:
    """The weight that a quantised layer stands for, fp32, shape (out, in)."""
    import bitsandbytes

    if type(layer).__name__ == "Linear4bit":
        whole = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return whole.to(torch.float32)
    rows = layer.weight if layer.weight.CB is not None else layer.state  # they move at the first forward pass
    return rows.CB.to(torch.float32) * (rows.SCB.to(torch.float32)[:, None] / 127.0)


def parameters(model: nn.Module) -> int:
    """How many numbers a model has, where two 4-bit ones share a byte; scales are not counted."""
    count = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count += parameter.numel() if state is None else torch.Size(state.shape).numel()
    return count


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep bitsandbytes and peft from what they say at every use: a kernel from the hub that is not there, and so on.

    From the first use on, bitsandbytes tells of errors only: else it says at each layer and step that inputs are
    rounded to fp16 before they are quantised, which `gradient_agreement` measures.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # peft asks transformers for a name that is to go in version 6
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
