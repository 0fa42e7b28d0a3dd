"""SmolLM2-135M-Instruct, a real pretrained model: the asset's 4-bit GGUF file, written once as fp32 safetensors.

transformers takes half a minute to read the GGUF file, and a fraction of a second for the converted folder, which
lies beside the asset in the cache (538 MB).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chimera_lib import assets
from chimera_lib.errors import ChimeraError
from chimera_lib.locking import exclusive
from chimera_lib.unpacking import flush_to_disk

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import LlamaConfig

NAME = "smollm2-135m"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES = 542_000_000  # of the converted folder


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # standard output is the command's


def config() -> LlamaConfig:
    """The architecture, as the GGUF file states it, for what has to know the shape without the weights."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        max_position_embeddings=8192,
        rope_parameters={"rope_theta": 100_000.0, "rope_type": "default"},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def folder(report: Callable[[str], object] = _tell) -> Path:
    """The converted model's folder, made at the first call; processes that ask at the same time wait for one another.

    Args:
        report: called with a line that says what is being done, if anything is.

    Raises:
        AssetMissing: the asset has not been fetched; the message says how to.
        ChimeraError: too little room on the disk.
    """
    source = assets.path(NAME)
    place = source.with_name(f"{source.name}-safetensors")
    if place.is_dir():
        return place
    with exclusive(assets.root() / ".locks" / place.name, f"the conversion of {NAME}", report):
        if place.is_dir():  # another process has made it meanwhile
            return place
        free = shutil.disk_usage(place.parent).free
        if free < 2 * BYTES:
            raise ChimeraError(
                f"{place.parent} has {free / 1e6:.0f} MB free and {NAME} needs {2 * BYTES / 1e6:.0f} MB; "
                "make room, or set CHIMERA_DATA to a folder on a larger disk"
            )
        report(f"{NAME}: writing the weights as safetensors, once (538 MB, about half a minute) to {place}")
        partial = assets.root() / ".partial"
        partial.mkdir(exist_ok=True)
        for left in partial.glob(f"{place.name}-*"):  # of killed conversions: the lock says that none is at work
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=partial))
        try:
            convert(source, work)
            flush_to_disk(work)
            work.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner only
            work.replace(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return place


def convert(source: Path, target: Path) -> None:
    """Read the GGUF file in `source`; write fp32 weights, configuration, tokenizer and licence into `target`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    # The configuration still calls the weights quantised, and the model refuses to be saved while it does.
    del read.config.quantization_config
    whole = type(read)(read.config)
    whole.load_state_dict(read.state_dict())
    whole.save_pretrained(target)
    tokenizer.save_pretrained(target)
    shutil.copy(source / "LICENSE", target / "LICENSE")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
