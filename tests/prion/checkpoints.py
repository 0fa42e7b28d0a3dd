"""Small checkpoints of the two architectures, with a tokenizer, as save_pretrained writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 300
END = "<|end|>"


def config(architecture: str) -> GPTNeoXConfig | LlamaConfig:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    if architecture == "llama":
        return LlamaConfig(**sizes, **ends, intermediate_size=128, num_key_value_heads=2, tie_word_embeddings=True)
    return GPTNeoXConfig(**sizes, **ends, intermediate_size=256)


def save(folder: Path, architecture: str) -> Path:
    torch.manual_seed(0)
    kinds = {"llama": LlamaForCausalLM, "gpt_neox": GPTNeoXForCausalLM}
    kinds[architecture](config(architecture)).save_pretrained(folder)
    words = {END: 0} | {f"word{number}": number for number in range(1, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(folder)
    return folder
