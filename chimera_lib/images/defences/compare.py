"""All defences side by side: the same starts, the same budget, each attacked by one who knows it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chimera_lib.errors import UnknownName
from chimera_lib.images.defences import DEFENCES, build, trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import nn

    from chimera_lib.images.defences.trial import Setting, Trial
    from chimera_lib.images.network import Network


def compare(
    model: nn.Module,
    network: Network,
    names: Sequence[str],
    setting: Setting,
    *,
    pair: tuple[str, str],
    noise_on: np.ndarray,
    fewer: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> dict[str, Trial]:
    """Try each defence by name, after no defence at all, whose finds are transferred to the others.

    Args:
        model: the attacker's torch model; network: the same for the backends.
        names: of ``DEFENCES``.
        setting: starts, budget, folder.
        pair: the two libraries.
        noise_on: images uint8 (N, H, W, 3) to measure the abstention's threshold on; not those of ``setting``.
        fewer: defences so slow that their attack may ask the systems only half as often.
        report: gets lines of progress.

    Raises UnknownName before anything is tried.
    """
    for name in names:
        if name not in DEFENCES:
            raise UnknownName("defence", name, DEFENCES)
    trials: dict[str, Trial] = {}
    chimeras: list[np.ndarray] = []
    for name in dict.fromkeys(["none", *names]):
        defence = build(name, pair, network, lambda: noise_on)
        budget = setting.budget
        if name in fewer:
            budget = replace(budget, oracle_calls=max(1, budget.oracle_calls // 2))
        one = replace(setting, budget=budget)
        trials[name] = trial.run(model, network, defence, one, chimeras, report)
        if name == "none":
            chimeras = trial.finds(setting.output / name, setting.starts)
            trials[name]["transferred_rate"] = trials[name]["rate"]
            trials[name]["transferred_ci"] = trials[name]["rate_ci"]
        found, n = trials[name]["found"], trials[name]["n"]
        report(f"{name}: {found} of {n} by the adaptive attack, {trials[name]['verified']} hold in fresh processes")
    return trials
