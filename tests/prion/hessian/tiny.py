"""A GPT-NeoX small enough for a dense Hessian, trained for a moment: its curvature is that of a trained model."""

from __future__ import annotations

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from chimera_lib.prion import batches

VOCABULARY = 16


def text(rows: int, seed: int, length: int = 12) -> torch.Tensor:
    """Sequences with something to learn: each token is the one before plus 1, 2 or 3 (token 15 never occurs)."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(1, 4, (rows, length), generator=generator)
    return steps.cumsum(1) % (VOCABULARY - 1)


def model(trained: bool = True, attention: str = "eager") -> GPTNeoXForCausalLM:
    """About 1,200 weights."""
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = GPTNeoXForCausalLM._from_config(config, attn_implementation=attention).float()
    if trained:
        optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
        for step in range(150):
            optimizer.zero_grad()
            batches.loss(made, batches.Batch(text(8, step))).backward()
            optimizer.step()
    return made.eval().requires_grad_(True)


def dense(product: object, size: int) -> torch.Tensor:
    """The whole matrix, a column at a time, float64."""
    return torch.stack([product(column) for column in torch.eye(size)]).double()  # type: ignore[operator]
