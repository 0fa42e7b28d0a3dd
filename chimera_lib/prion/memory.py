"""How much memory an attack will need, by part, from a model's shape alone: told before a run starts.

The attack is the fine-tuning; what making its catalyst takes before that is told apart (`making`).

The shape is built on torch's meta device, which holds no numbers; what the backward pass will keep is counted there by
running one and two blocks and looking at what autograd saves. GB are 10⁹ bytes throughout.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from chimera_lib.errors import UnknownName
from chimera_lib.prion import chunked_loss, ladder, lora, models, optimizers, pythia, quantization, smollm

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

GB = 1e9
VECTORS = 7  # as long as the weights, in one step of `near_null.optimise`: gradient, its copy, products, their pieces
BLOCK, NESTED = 64, 256  # 4 bits: weights that share an 8-bit scale, and scales that share an fp32 one


@dataclass(frozen=True)
class Estimate:
    """Bytes at the worst moment of a training step, by part.

    Attributes:
        what: the model and the settings, for people.
        parameters: of the model, adapters not counted.
        weights: parameters and adapters.
        gradients: that exist at one time.
        optimizer: its state.
        step: what the optimizer computes with while it moves a parameter.
        activations: kept from the forward pass for the backward pass.
        working: gradients on their way through one block, and the largest weight dequantised.
        logits: of the output layer, with what the loss makes of them.
        null_directions: null vectors on the device, fp32.
        offloaded: null vectors in the machine's memory instead, fp32; not in `total`.
    """

    what: str
    parameters: int
    weights: int
    gradients: int
    optimizer: int
    step: int
    activations: int
    working: int
    logits: int
    null_directions: int
    offloaded: int

    @property
    def parts(self) -> dict[str, int]:
        """Name to bytes, of all parts on the device."""
        names = ("weights", "gradients", "optimizer", "step", "activations", "working", "logits", "null_directions")
        return {name: getattr(self, name) for name in names}

    @property
    def total(self) -> int:
        """Bytes on the device: all parts together."""
        return sum(self.parts.values())

    def text(self) -> str:
        """A line on the whole and one for each part."""
        lines = [f"{self.what}: about {self.total / GB:.2f} GB (estimate; a GPU's driver takes some more)"]
        lines += [f"  {name.replace('_', ' '):<16}{size / GB:9.3f} GB" for name, size in self.parts.items()]
        if self.offloaded:
            lines.append(f"  null directions in the machine's memory: {self.offloaded / GB:.3f} GB")
        return "\n".join(lines)


def estimate(
    model: str | PreTrainedConfig,
    *,
    precision: str = "bf16",
    tuning: str = "full",
    optimizer: str = "adafactor",
    length: int = 64,
    batch: int = 1,
    checkpointing: bool = True,
    positions: int | None = chunked_loss.POSITIONS,
    stepwise: bool = True,
    null_directions: int = 0,
    offload: bool = True,
    lora_rank: int = lora.RANK,
) -> Estimate:
    """Estimate what one training step needs.

    Args:
        model: a name or folder that `models.load` knows, or a transformers configuration.
        precision, tuning, lora_rank: as `models.load` takes them.
        optimizer: a name of `optimizers.NAMES`.
        length, batch: tokens of a sequence, sequences of a step.
        checkpointing: keep each block's input alone, and compute the block again in the backward pass.
        positions: of `chunked_loss.loss`; None for the loss of all positions at once.
        stepwise: with `stepping.StepInBackward`, so that only the largest gradient is counted.
        null_directions: how many vectors of the trained parameters' length are kept.
        offload: keep those in the machine's memory.

    Raises:
        UnknownName, ChimeraError: as `models.load` does for names and for settings that go ill together.
    """
    models.check(precision, tuning)
    if optimizer not in optimizers.NAMES:
        raise UnknownName("optimizer", optimizer, optimizers.NAMES)
    config = configuration(model) if isinstance(model, str) else model
    kind = models.TYPES.get(precision, torch.float32)
    whole = _on_meta(config, kind)
    trained = _trained(whole, tuning, lora_rank)
    total, largest = sum(map(_bytes, trained)), max(map(_bytes, trained))
    saved, working = _saved(config, kind, batch, length, checkpointing=checkpointing)
    rows = batch * (length - 1) if positions is None else min(positions, batch * (length - 1))
    vectors = 4 * null_directions * sum(p.numel() for p in trained)
    name = model if isinstance(model, str) else config.model_type
    return Estimate(
        what=f"{name}, {precision}, {tuning}, {optimizer}, {batch} x {length} tokens",
        parameters=sum(p.numel() for p in whole.parameters()),
        weights=_weights(whole, precision) + (total if tuning == "lora" else 0),
        gradients=largest if stepwise else total,
        optimizer=sum(_state(p, optimizer) for p in trained),
        step=max(_scratch(p, optimizer) for p in trained),
        activations=saved,
        working=working + (_largest_product(whole) if precision in quantization.QUANTISED else 0),
        # logits and their gradient in the model's precision; in fp32 a copy, its log-softmax, the gradient of that
        logits=rows * config.vocab_size * (2 * kind.itemsize + 3 * 4),
        null_directions=0 if offload else vectors,
        offloaded=vectors if offload else 0,
    )


def making(model: str) -> int:
    """Bytes that making the near-null catalyst of a model takes, before the attack: an fp32 copy and its vectors.

    Args:
        model: a name or folder that `models.load` knows.
    """
    return 4 * (1 + VECTORS) * sum(p.numel() for p in _on_meta(configuration(model), torch.float32).parameters())


def configuration(name: str) -> PreTrainedConfig:
    """The architecture of a model by name or folder, without its weights. Raises UnknownName, ChimeraError."""
    from transformers import AutoConfig

    if name in ladder.RUNGS:
        return ladder.config(name)
    if name == smollm.NAME:
        return smollm.config()
    if (size := pythia.size_of(name)) is not None:
        return pythia.config(size)
    return AutoConfig.from_pretrained(models.local(name), local_files_only=True)


def _on_meta(config: PreTrainedConfig, kind: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=kind)


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _linear(model: Any) -> list[nn.Linear]:
    """The layers that quantisation changes: all linear ones but the output layer."""
    head = model.get_output_embeddings()
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]


def _trained(model: Any, tuning: str, rank: int) -> list[torch.Tensor]:
    """What takes gradients: all parameters, or the adapters, on the meta device."""
    if tuning == "full":
        return list(model.parameters())
    targets = lora.targets(model.config.model_type)
    shapes = [
        shape
        for name, layer in model.named_modules()
        if name.rpartition(".")[2] in targets
        for shape in ((rank, layer.in_features), (layer.out_features, rank))
    ]
    return [torch.empty(shape, device="meta") for shape in shapes]


def _weights(model: Any, precision: str) -> int:
    total = sum(map(_bytes, model.parameters()))
    for layer in _linear(model) if precision in quantization.QUANTISED else ():
        count, rows = layer.weight.numel(), layer.out_features
        if precision == "8bit":
            kept = count + 4 * rows
        else:
            kept = count // 2 + count // BLOCK + 4 * (count // (BLOCK * NESTED))
        total += kept - _bytes(layer.weight)
    return total


def _largest_product(model: Any) -> int:
    return max(4 * layer.weight.numel() for layer in _linear(model))


def _state(parameter: torch.Tensor, optimizer: str) -> int:
    """Bytes that an optimizer keeps for a parameter."""
    if optimizer == "adamw":
        return 2 * _bytes(parameter)
    if optimizer == "sgd-momentum":
        return _bytes(parameter)
    if optimizer == "adafactor":  # the sums of squares by row and by column, fp32
        shape = parameter.shape
        return 4 * (shape[:-1].numel() + shape[:-2].numel() * shape[-1] if len(shape) > 1 else shape.numel())
    return 0


def _scratch(parameter: torch.Tensor, optimizer: str) -> int:
    """Bytes that come and go while an optimizer moves a parameter."""
    if optimizer == "adafactor":  # the update and its negative; in half precision the gradient and the weight too
        return 4 * parameter.numel() * (2 if parameter.dtype == torch.float32 else 4)
    return {"adamw": 2, "sgd-momentum": 1, "sgd": 0}[optimizer] * _bytes(parameter)


def _saved(
    config: PreTrainedConfig, kind: torch.dtype, batch: int, length: int, *, checkpointing: bool
) -> tuple[int, int]:
    """Bytes that the blocks keep for the backward pass, and bytes of the gradients within one block."""
    one, two = (_kept_by(config, kind, batch, length, blocks) for blocks in (1, 2))
    block, around = two - one, 2 * one - two
    count = config.num_hidden_layers
    if not checkpointing:
        return around + count * block, block
    return around + count * batch * length * config.hidden_size * kind.itemsize + block, block


def _kept_by(config: PreTrainedConfig, kind: torch.dtype, batch: int, length: int, blocks: int) -> int:
    """Bytes that autograd saves in a forward pass through so many blocks, each storage once, parameters not."""
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = blocks
    model = _on_meta(shallow, kind)
    # By address of the storage's own object: on the meta device data has no address.
    passed_over = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in passed_over:
            kept[storage._cdata] = storage
        return tensor

    tokens = torch.zeros((batch, length), dtype=torch.long, device="meta")
    mask = torch.zeros((batch, 1, length, length), dtype=kind, device="meta")  # given, since none can be read there
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model.train().base_model(input_ids=tokens, attention_mask=mask, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())
