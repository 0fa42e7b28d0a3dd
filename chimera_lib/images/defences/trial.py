"""Try a defence: the adaptive attack from many starts, the transferred attack, accuracy, coverage and cost.

A trial's folder is a campaign's (``rows.jsonl``, ``NNNNN.png``) with ``clean.json`` beside it, and goes on where it
was stopped. A trial of other settings is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chimera_lib import stats
from chimera_lib.images import campaign
from chimera_lib.images.defences.defence import Defence, Defended
from chimera_lib.images.png import decode, png_bytes
from chimera_lib.images.search import lattice, protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from chimera_lib.images.network import Network

VERIFY_ROUNDS = 2
TIMED = 32  # images whose CPU time is compared with that of no defence
LEAST = 0.5  # seconds of CPU time to measure, as the system tells them in hundredths
BATCH = 256  # images asked about together when accuracy is measured
Trial = dict[str, Any]
# The code that attacks and defends, as it was loaded: a trial of other code is another trial.
FILES = [*sorted(Path(__file__).parent.glob("*.py")), Path(lattice.__file__), Path(protocol.__file__)]
CODE = hashlib.sha256(b"".join(file.read_bytes() for file in FILES if file.name != "report.py")).hexdigest()


@dataclass(frozen=True)
class Setting:
    """What the trials of one table share.

    Attributes:
        images, labels: uint8 (N, H, W, 3) and int (N,); starts are their first, accuracy is measured on their first.
        starts: images to attack from.
        accuracy_on: images to measure accuracy on; 0 leaves it out.
        budget: of one attack.
        seed: of the attacks, and of what a system draws.
        output: folder; each defence has its own in it.
    """

    images: np.ndarray
    labels: np.ndarray
    starts: int
    accuracy_on: int
    budget: protocol.Budget
    seed: int
    output: Path


def run(
    model: nn.Module,
    network: Network,
    defence: Defence,
    setting: Setting,
    transferred: Sequence[np.ndarray],
    report: Callable[[str], None],
) -> Trial:
    """Attack and measure one defence.

    Args:
        model: the attacker's torch model, in eval mode.
        network: what the backends run.
        defence: which.
        setting: starts, budget and where it is kept.
        transferred: chimeras found against no defence, uint8 (H, W, 3) each, shown to this one as they are.
        report: gets a line now and then.

    Returns the figures by name, with intervals of 95 %.
    """
    folder = setting.output / defence.name
    with Defended(defence, network, setting.seed) as system:
        facts = system.info()
        done = campaign.resume(folder, identity(network, defence, setting, facts))
        rows, found = attack(model, system, setting, folder, done, report)
        shown = system(np.stack(transferred)) if len(transferred) else None
        clean = measured(folder, system, network, setting) if defence.clean else {}
    checked = verified(network, defence, found, setting.seed)
    n, summary = len(rows), campaign.summary(rows)
    kind = "half" if defence.edge else "differ"
    moved = int(getattr(shown, kind).sum()) if shown is not None else 0
    return {
        **summary,
        "title": defence.title,
        "settings": defence.settings,
        "verified": checked,
        "verified_rate": checked / n,
        "verified_ci": stats.exact(checked, n),
        "transferred_rate": moved / n,
        "transferred_ci": stats.exact(moved, n),
        **clean,
        "backends": facts,
    }


def identity(network: Network, defence: Defence, setting: Setting, facts: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What a trial depends on, as far as this machine can tell; JSON-able."""
    said = {name: f"{fact['version']} {fact['kernels']}" for name, fact in facts.items()}
    return {
        "strategy": f"adaptive attack on {defence.name}",
        "defence": defence.settings,
        "budget": asdict(setting.budget),
        "seed": setting.seed,
        "network": network.sha256,
        "backends": said,
        "code": CODE,
    }


def attack(
    model: nn.Module,
    system: Defended,
    setting: Setting,
    folder: Path,
    done: dict[int, tuple[campaign.Row, np.ndarray | None]],
    report: Callable[[str], None],
) -> tuple[list[campaign.Row], list[np.ndarray]]:
    """Attack from each start that is not ``done``, keeping each result at once; rows in order, and what was found."""
    said = time.monotonic()
    for start in range(setting.starts):
        image = setting.images[start]
        if start in done and done[start][0].image == campaign.digest(image):
            continue
        system.rng = np.random.default_rng([setting.seed, start])  # fresh draws do not depend on what ran before
        cpu = time.process_time() + system.cpu_seconds
        outcome = system.defence.attack(model, image, system, setting.budget, setting.seed * 1_000_003 + start)
        cpu = time.process_time() + system.cpu_seconds - cpu
        row = campaign.describe(start, image, outcome, cpu, system.names)
        campaign.append(folder, row, outcome.chimera)
        done[start] = row, outcome.chimera
        if time.monotonic() - said > 30:
            said = time.monotonic()
            met = sum(row.found for row, _ in done.values())
            report(f"{system.defence.name}: {met} of {len(done)} starts attacked with success")
    rows = [done[start][0] for start in range(setting.starts)]
    images = [done[start][1] for start in range(setting.starts)]
    return rows, [image for image in images if image is not None]


def finds(folder: Path, starts: int) -> list[np.ndarray]:
    """The images, uint8 (H, W, 3) each, that a trial's attack found from its first ``starts``."""
    kept = campaign.load(folder)
    return [image for start in range(starts) for _, image in (kept[start],) if image is not None]


def verified(network: Network, defence: Defence, found: Sequence[np.ndarray], seed: int) -> int:
    """How many images meet the attack's goal in every one of two rounds of fresh processes, shown as PNGs.

    Where the defence draws afresh, so does each round.
    """
    if not found:
        return 0
    stack = np.stack([decode(png_bytes(image), "conflict") for image in found])
    holds = np.ones(len(stack), bool)
    for turn in range(VERIFY_ROUNDS):
        with Defended(defence, network, seed + 1 + turn) as fresh:
            holds &= fresh(stack).conflict
    return int(holds.sum())


def measured(folder: Path, system: Defended, network: Network, setting: Setting) -> dict[str, Any]:
    """Accuracy among the answers, coverage and slowdown; kept in ``clean.json``."""
    if not setting.accuracy_on:
        return {"slowdown": slowdown(system, network, setting.images[:TIMED])}
    kept = folder / "clean.json"
    count = setting.accuracy_on
    labels = np.asarray(setting.labels[:count], np.int64)
    asked = {"images": count, "sha256": hashlib.sha256(setting.images[:count].tobytes() + labels.tobytes()).hexdigest()}
    if kept.is_file():
        content = json.loads(kept.read_text())
        figures = dict(content.pop("figures"))
        if content == asked:
            return figures
    system.rng = np.random.default_rng(setting.seed)
    parts = [system.answers(setting.images[i : min(i + BATCH, count)], 0) for i in range(0, count, BATCH)]
    answered = ~np.concatenate([part.abstains for part in parts])
    right = np.concatenate([part.logits.argmax(-1) for part in parts]) == labels
    figures = {
        "accuracy": float(right[answered].mean()),
        "accuracy_ci": stats.exact(int(right[answered].sum()), int(answered.sum())),
        "answered": int(answered.sum()),
        "accuracy_n": count,
        "coverage": float(answered.mean()),
        "coverage_ci": stats.exact(int(answered.sum()), count),
        "slowdown": slowdown(system, network, setting.images[:TIMED]),
    }
    campaign.write_whole(kept, json.dumps({**asked, "figures": figures}, indent=2).encode())
    return figures


def slowdown(system: Defended, network: Network, images: np.ndarray) -> float:
    """CPU seconds that the system on library A takes for ``images``, over those without a defence, measured together.

    Without a defence the same library is asked; for the vote the first of its three, for the fixed order OpenBLAS.
    """
    first = system.defence.sides[0]
    library = first[0].partition(":")[0]
    plain = "openblas" if library == "fixed-order" else library
    with Defended(Defence(((plain,), (plain,))), network) as undefended:
        undefended.answers(images[:2], 0)
        taken = each(lambda: system.answers(images, 0), lambda: sum(system.cpu_of(name) for name in first))
        usual = each(lambda: undefended.answers(images, 0), lambda: undefended.cpu_of(plain))
    return taken / usual


def each(ask: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds on ``clock`` that ``ask`` takes, in the mean of as many repetitions as fill ``LEAST`` seconds."""
    start, times = clock(), 0
    while clock() - start < LEAST:
        ask()
        times += 1
    return (clock() - start) / times
