"""Which backends this machine has, and which of them give identical bits.

Two backends are in one class when all their logits on a probe set are equal to the last bit. Rates of disagreement
mean something between classes only: every OpenBLAS build with one kernel set, say, is one class.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chimera_lib.errors import BackendDied, BackendUnavailable
from chimera_lib.images.backends import registry
from chimera_lib.images.backends.pool import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chimera_lib.images.network import Network


@dataclass(frozen=True)
class Row:
    """One backend's line in the table.

    Attributes:
        name, library, family, needs_system: as in the registry.
        version, kernels, path: what the running library says of itself; empty where it does not run.
        reason: why it is not available; empty where it is.
        bit_class: number of its class of identical logits, from 1 in the order of the table; 0 where not available.
        milliseconds: for one image at batch 1 on one thread, everything included.
        difference: largest absolute difference of a logit from the reference's (OpenBLAS where it runs).
    """

    name: str
    library: str
    family: str
    version: str = ""
    kernels: str = ""
    path: str = ""
    reason: str = ""
    bit_class: int = 0
    milliseconds: float = float("nan")
    difference: float = float("nan")
    needs_system: bool = False

    @property
    def available(self) -> bool:
        """Whether it ran."""
        return not self.reason


def probes(shape: tuple[int, int, int] = (3, 32, 32), count: int = 32, seed: int = 0) -> np.ndarray:
    """Pictures with the spectrum of natural ones (amplitude falls with frequency), uint8 (count, H, W, C), seeded.

    No data set is needed for them; they only have to send ordinary numbers through every layer.
    """
    channels, height, width = shape
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    noise = np.fft.fft2(rng.standard_normal((count, channels, height, width)))
    smooth = np.fft.ifft2(noise / np.maximum(frequency, 1 / max(height, width)) ** 1.5).real
    smooth = smooth / smooth.std((1, 2, 3), keepdims=True) * 60 + rng.uniform(80, 170, (count, channels, 1, 1))
    return smooth.clip(0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def resolve(backend: str | registry.Backend) -> registry.Backend:
    """A backend by name, or as it is; raises UnknownName."""
    return registry.get(backend) if isinstance(backend, str) else backend


def measure(
    network: Network, backend: registry.Backend, images: np.ndarray, timeout: float
) -> tuple[dict[str, str], np.ndarray, float]:
    """What the backend says it is, its logits (N, classes), and milliseconds an image."""
    with Worker(backend, network, start_timeout=timeout, timeout=timeout) as worker:
        worker.predict(images[:2])  # the first calls allocate and compile
        start = time.perf_counter()
        logits = worker.predict(images)
        return worker.info(), logits, (time.perf_counter() - start) / len(images) * 1e3


def rows(
    network: Network,
    backends: Sequence[str | registry.Backend] | None = None,
    images: np.ndarray | None = None,
    timeout: float = 120.0,
) -> Iterator[Row]:
    """Try the backends one after another (all that are known by default) and yield a row for each as it is measured."""
    images = probes(network.input_shape) if images is None else images
    classes: dict[bytes, int] = {}
    reference: np.ndarray | None = None
    for backend in registry.known() if backends is None else [resolve(each) for each in backends]:
        row = Row(backend.name, backend.library, backend.family)
        try:
            facts, logits, milliseconds = measure(network, backend, images, timeout)
        except (BackendUnavailable, BackendDied) as error:
            yield Row(row.name, row.library, row.family, reason=str(error).removeprefix(f"{row.name}: "))
            continue
        if reference is None:
            reference = logits
        if logits.shape != reference.shape:
            reason = f"gives {logits.shape[1]} classes; expected {reference.shape[1]}, as of the backend before it"
            yield Row(row.name, row.library, row.family, reason=reason)
            continue
        yield Row(
            row.name,
            row.library,
            row.family,
            facts.get("version", ""),
            facts.get("kernels", ""),
            facts.get("path", ""),
            bit_class=classes.setdefault(logits.tobytes(), len(classes) + 1),
            milliseconds=milliseconds,
            difference=float(np.abs(logits - reference).max()),
            needs_system=backend.needs_system,
        )


def survey(
    network: Network,
    backends: Sequence[str | registry.Backend] | None = None,
    images: np.ndarray | None = None,
    timeout: float = 120.0,
) -> list[Row]:
    """The whole table.

    Args:
        network: what the backends run.
        backends: names or backends; all that are known by default.
        images: probe set, uint8 (N, H, W, C); ``probes`` by default.
        timeout: seconds that a backend may take to load, and for a message of 32 images.
    """
    return list(rows(network, backends, images, timeout))


class Count(NamedTuple):
    """How much there is: backends that ran, their libraries, and classes of identical bits."""

    backends: int
    libraries: int
    classes: int


def count(table: Sequence[Row], *, system: bool = True) -> Count:
    """Count what ran; without ``system``, only what pip installs, leaving out what needs the system's packages."""
    ran = [row for row in table if row.available and (system or not row.needs_system)]
    return Count(len(ran), len({row.library for row in ran}), len({row.bit_class for row in ran}))


def as_rows(table: Sequence[Row]) -> list[dict[str, object]]:
    """What ran, as rows for a table with a reader's column names."""
    return [
        {
            "backend": row.name,
            "family": row.family,
            "version": row.version,
            "kernels": row.kernels,
            "bit class": row.bit_class,
            "ms an image": row.milliseconds,
            "largest difference": row.difference,
        }
        for row in table
        if row.available
    ]


def print_backends(
    network: Network,
    backends: Sequence[str | registry.Backend] | None = None,
    images: np.ndarray | None = None,
    report: Callable[[str], None] = print,
) -> list[Row]:
    """Print the table line by line as it is measured, then how many libraries and classes there are."""
    chosen = registry.known() if backends is None else [resolve(each) for each in backends]
    layout = "{:<25} {:<11} {:<12} {:<20} {:>5} {:>8} {:>9}  {}".format
    report(layout("backend", "library", "version", "kernels", "class", "ms/image", "max diff", "file, or why not"))
    table = []
    for row in rows(network, chosen, images):
        numbers = (
            [str(row.bit_class), f"{row.milliseconds:.1f}", f"{row.difference:.1e}"] if row.available else ["-"] * 3
        )
        about = row.path if row.available else f"not available: {row.reason}"
        report(layout(row.name, row.library, row.version[:12], row.kernels[:20], *numbers, about).rstrip())
        table.append(row)
    found = count(table)
    report(
        f"{found.backends} of {len(table)} backends available: {found.libraries} libraries, {found.classes} bit classes"
    )
    if found.backends:
        first = next(row.name for row in table if row.available)
        report(f"class: identical logits on the probe set; max diff: largest difference of a logit from {first}")
    return table
