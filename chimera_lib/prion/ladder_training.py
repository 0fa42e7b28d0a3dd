"""Train the miniature ladder: to a common held-out loss, and to a common number of tokens.

One run a model. The learning rate stays as it is after a short warm-up, and what is kept is a running average of the
weights, which does what a falling rate would do and leaves no schedule to differ between the two checkpoints
(Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992). Every few steps the average is
scored on the play set aside for this; the first one at or below `MATCHED_LOSS` becomes ``matched-loss``, and the one
after `MATCHED_TOKENS` tokens ``matched-tokens``. The test plays are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor
from tqdm.auto import tqdm

from chimera_lib.errors import ChimeraError
from chimera_lib.prion import batches, corpus, ladder

if TYPE_CHECKING:
    from pathlib import Path

BATCH, LENGTH = 16, 128  # sequences a step, tokens a sequence
MATCHED_TOKENS = 2048 * BATCH * LENGTH  # 4.2 million, two passes over the text
MATCHED_LOSS = 3.25  # nats a token on the development play
MOST_STEPS = 12_000
WARM_UP = 100
AVERAGE = 0.995  # of the running average, once it is warm
SCORE_EVERY, SAVE_EVERY = 16, 256


@dataclass(frozen=True)
class Trained:
    """One checkpoint: its file, and the facts of its card."""

    file: Path
    facts: dict[str, Any]


class _Training:
    """One model in training: its weights, their running average, the optimizer, and where all of it is kept."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.seed, self.folder = name, seed, folder
        self.model = ladder.new(name, seed).train()
        self.average = ladder.new(name, seed).eval().requires_grad_(False)
        self.rate = ladder.RUNGS[name].learning_rate
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate, betas=(0.9, 0.95), weight_decay=0.1)
        self.step = 0
        self.done: dict[str, dict[str, Any]] = {}

    def advance(self, text: Tensor) -> float:
        """One step on passages drawn by the step's own seed, so that a resumed run sees what it would have seen."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        starts = torch.randint(0, len(text) - LENGTH, (BATCH,), generator=generator)
        batch = batches.Batch(torch.stack([text[start : start + LENGTH] for start in starts.tolist()]))
        self.optimizer.param_groups[0]["lr"] = self.rate * min(1.0, (self.step + 1) / WARM_UP)
        with torch.autocast("cpu", torch.bfloat16):
            loss = batches.loss(self.model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        keep = min(AVERAGE, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        return loss.item()

    def save(self) -> None:
        """Keep everything that a resumed run needs, in one file that replaces the last one when it is whole."""
        state = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        state |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
        header = {"seed": str(self.seed), "step": str(self.step), "done": json.dumps(self.done)}
        partial = self.folder / f"{self.name}.training.partial"
        safetensors.torch.save_file(state, partial, header)
        partial.replace(self.folder / f"{self.name}.training")

    def resume(self) -> None:
        """Go on from what an interrupted run left, if it left anything.

        Raises:
            ChimeraError: it was left by a run of another seed.
        """
        file = self.folder / f"{self.name}.training"
        if not file.is_file():
            return
        with safetensors.safe_open(file, "pt") as opened:
            header = opened.metadata()
        if header.get("seed") != str(self.seed):
            raise ChimeraError(
                f"{file} is of an unfinished training with seed {header.get('seed', 'unknown')}, expected {self.seed}; "
                "give that seed to end it, or delete the file to begin anew"
            )
        state = safetensors.torch.load_file(file)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for key, value in state.items():
            part, _, rest = key.partition(".")
            parts[part][rest] = value
        self.model.load_state_dict(parts["model"])
        self.average.load_state_dict(parts["average"])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in parts["optimizer"].items():
            number, _, rest = key.partition(".")
            moments.setdefault(int(number), {})[rest] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.step, self.done = int(header["step"]), json.loads(header["done"])

    def finish(self, checkpoint: str, dev_loss: float) -> Trained:
        """Write the running average as a checkpoint in half precision, with the facts of its card beside it."""
        file = self.folder / f"{self.name}-{checkpoint}.safetensors"
        facts = {
            "model": self.name,
            "checkpoint": checkpoint,
            "steps": self.step,
            "tokens": self.step * BATCH * LENGTH,
            "dev_loss": round(dev_loss, 4),
            "seed": self.seed,
            "learning_rate": self.rate,
            "command": f"chimera prion train --model {self.name} --seed {self.seed}",
        }
        partial = file.with_suffix(".partial")
        halves = {key: value.half().contiguous() for key, value in self.average.state_dict().items()}
        safetensors.torch.save_file(halves, partial, {"format": "pt"})
        partial.replace(file)
        file.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        self.done[checkpoint] = facts
        return Trained(file, facts)


@torch.inference_mode()
def passage_losses(model: torch.nn.Module, ids: Tensor, *, length: int = LENGTH, batch: int = 32) -> Tensor:
    """Mean cross-entropy in nats of each passage of ``length`` tokens without overlap; ids (N,) -> (N // length,)."""
    losses = []
    for rows in corpus.passages(ids, length=length).split(batch):
        logits = model(input_ids=rows, use_cache=False).logits[:, :-1].float()  # (B, T-1, V)
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
        losses.append(each.double().mean(1))
    return torch.cat(losses)


def held_out_loss(model: torch.nn.Module, ids: Tensor) -> float:
    """The mean of `passage_losses`."""
    return float(passage_losses(model, ids).mean())


def train(
    name: str,
    *,
    folder: Path,
    seed: int = 0,
    target: float = MATCHED_LOSS,
    tokens: int = MATCHED_TOKENS,
    most_steps: int = MOST_STEPS,
    progress: bool = True,
) -> list[Trained]:
    """Train one model of the ladder until it has both checkpoints; a run that was interrupted goes on.

    Args:
        name: a name of `ladder.RUNGS`.
        folder: where the checkpoints go; also the state of the unfinished run, which is removed at the end.
        seed: of the first weights and of the passages.
        target: loss of ``matched-loss`` on the development play, nats a token.
        tokens: how many tokens ``matched-tokens`` has seen.
        most_steps: where to give up.
        progress: show a bar.

    Raises:
        UnknownName: there is no such model.
        ChimeraError: the target was not reached, and what else was finished is kept; or the folder holds the
            unfinished run of another seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Training(name, seed, folder)
    run.resume()
    tokenizer = corpus.ladder_tokenizer()
    text, dev = corpus.tokens("train", tokenizer), corpus.tokens("dev", tokenizer)
    bar = tqdm(total=most_steps, initial=run.step, desc=name, unit="step", disable=not progress)
    score = float("inf")
    with bar:
        while run.step < most_steps and len(run.done) < len(ladder.CHECKPOINTS):
            loss = run.advance(text)
            bar.update()
            near = min(score - 0.15, loss - 0.1) < target
            if run.step % SCORE_EVERY == 0 and (run.step % SAVE_EVERY == 0 or near):
                score = held_out_loss(run.average, dev)
                bar.set_postfix(train=f"{loss:.3f}", dev=f"{score:.3f}")
                if score <= target and "matched-loss" not in run.done:
                    run.finish("matched-loss", score)
            if run.step * BATCH * LENGTH == tokens:
                run.finish("matched-tokens", held_out_loss(run.average, dev))
            if run.step % SAVE_EVERY == 0:
                run.save()
    if "matched-loss" not in run.done:
        run.save()
        raise ChimeraError(f"{name} is at {score:.3f} after {run.step} steps, expected {target}; give more --steps")
    (folder / f"{name}.training").unlink(missing_ok=True)
    return [Trained(folder / f"{name}-{key}.safetensors", facts) for key, facts in run.done.items()]
