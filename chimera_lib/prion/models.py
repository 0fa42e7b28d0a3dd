"""Language models by name, in the precision and with the tuning that a run asks for."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chimera_lib.devices import check_device
from chimera_lib.errors import ChimeraError, UnknownName
from chimera_lib.prion import ladder, lora, out_of_memory, pythia, quantization, smollm

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = (*ladder.RUNGS, smollm.NAME, *pythia.SIZES)
HINT = "or name a folder that save_pretrained made"
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = (*TYPES, *quantization.QUANTISED)
TUNINGS = ("full", "lora")


@dataclass(frozen=True)
class Loaded:
    """A model, ready to be trained and measured.

    Attributes:
        model: a transformers causal language model in evaluation mode; a peft model around one where tuning is
            ``"lora"``. Attention is computed in plain operations (``eager``), which have second derivatives.
        tokenizer: its tokenizer.
        name: as it was asked for.
        precision: of `PRECISIONS`.
        tuning: of `TUNINGS`.
        parameters: how many numbers the model has, adapters not counted.
    """

    model: Any
    tokenizer: Any
    name: str
    precision: str
    tuning: str
    parameters: int


def load(
    name: str,
    *,
    precision: str = "fp32",
    tuning: str = "full",
    seed: int = 0,
    device: str = "cpu",
    lora_rank: int = lora.RANK,
    lora_dropout: float = 0.0,
    checkpointing: bool = False,
    checkpoint: str = "matched-loss",
) -> Loaded:
    """Load a model.

    Of 8-bit models the backward pass belongs in training mode (`model.train()`): there, on the CPU, products use the
    weights that are stored, and gradients are exact for those; in evaluation mode, and on a GPU always, inputs are
    rounded to 8 bits as well, and gradients pass straight through that rounding. `gradient_agreement` measures both.
    Whole models in fp16 become NaN at the first step of AdamW, whose smallest denominator (1e-8) is 0 in fp16: take
    bf16, fp32, or Adafactor, which computes in fp32.

    Args:
        name: one of `NAMES`, a folder that save_pretrained made, or a hub name of Pythia (EleutherAI/pythia-70m).
        precision: of the weights: fp32, fp16, bf16; 8bit, 4bit (NF4) with everything else in fp32.
        tuning: ``full``, all parameters train; ``lora``, adapters alone, see `lora.attach`.
        seed: of the adapters.
        device: cpu or cuda.
        lora_rank: of the adapters.
        lora_dropout: in the adapters.
        checkpointing: keep each block's input alone in the forward pass of training, and compute the rest again.
        checkpoint: which one of a model of the ladder.

    Raises:
        UnknownName: no such model, precision, tuning, device or checkpoint.
        AssetMissing: the weights are not here and cannot be had; the message says how to supply them.
        ChimeraError: a quantised model in full tuning, or a folder that holds no model.
        OutOfMemory: the model does not fit.
    """
    check(precision, tuning)
    check_device(device)
    with out_of_memory.named(f"loading {name} in {precision}"), _folder(name, checkpoint) as source:
        model, tokenizer = _read(source, precision, device)
        parameters = quantization.parameters(model)
        if precision in quantization.QUANTISED:
            quantization.keep_differentiable(model)
            model = quantization.prepare(model)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        if tuning == "lora":
            model = lora.attach(model, rank=lora_rank, dropout=lora_dropout, seed=seed)
    return Loaded(model.eval(), tokenizer, name, precision, tuning, parameters)


def check(precision: str, tuning: str) -> None:
    """Refuse what no model can be loaded with. Raises UnknownName, ChimeraError; see `load`."""
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if tuning not in TUNINGS:
        raise UnknownName("tuning", tuning, TUNINGS)
    if precision in quantization.QUANTISED and tuning == "full":
        raise ChimeraError(
            f"precision {precision} with tuning full: weights of a few whole numbers have no gradient to follow; "
            "take tuning lora, or fp32, bf16 or fp16"
        )


@contextlib.contextmanager
def _folder(name: str, checkpoint: str) -> Iterator[Path | str]:
    """What from_pretrained can read: a folder, for the duration of the block, or a name on the hub."""
    if name in ladder.RUNGS:
        model, tokenizer = ladder.load(name, checkpoint=checkpoint)
        with tempfile.TemporaryDirectory(prefix="chimera-") as made, _without_bars():
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            yield Path(made)
    elif name == smollm.NAME:
        with _without_bars():
            found = smollm.folder()
        yield found
    elif (size := pythia.size_of(name)) is not None:
        yield pythia.find(size)
    else:
        yield local(name)


def local(name: str) -> Path:
    """The folder that a user named instead of a model, looked into. Raises UnknownName, ChimeraError."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or name.startswith((".", "~")):
            raise ChimeraError(f"there is no folder {name}; name a model ({', '.join(NAMES)}), {HINT}")
        raise UnknownName("model", name, NAMES, HINT)
    missing = [file for file in ("config.json", "tokenizer_config.json") if not (folder / file).is_file()]
    if not list(folder.glob("*.safetensors")):
        missing.append("*.safetensors (weights in pickles are not read)")
    if missing:
        raise ChimeraError(
            f"{folder} holds no {', no '.join(missing)}; call save_pretrained of the model and of its tokenizer"
        )
    return folder


def _read(source: Path | str, precision: str, device: str) -> tuple[Any, Any]:
    """Call from_pretrained for the model and for the tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"local_files_only": isinstance(source, Path), "token": False}
    if quantised := precision in quantization.QUANTISED:
        where["quantization_config"] = quantization.config(precision)
    try:
        with _without_bars() if isinstance(source, Path) else contextlib.nullcontext(), quantization.quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=where["local_files_only"], token=False)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=torch.float32 if quantised else TYPES[precision],
                attn_implementation="eager",
                device_map={"": 0 if device == "cuda" else device},
                use_safetensors=True,
                **where,
            )
    except (OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ChimeraError(f"{source} cannot be read as a language model ({first}); {HINT}") from error
    return model, tokenizer


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing bars for reading and writing that takes no time."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
