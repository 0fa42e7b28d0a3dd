"""The backends of an audit: those that this machine has, and why it lacks the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chimera_lib.errors import BackendUnavailable
from chimera_lib.images.backends import registry
from chimera_lib.images.oracle import Oracle

if TYPE_CHECKING:
    from typing import Self


REFERENCES = ("fixed-order", "reference-float64")  # what others are compared with; nobody deploys them


class Present(Oracle):
    """An oracle of those backends that this machine has; ``missing`` says why it lacks the others."""

    def open(self) -> Self:
        """Start all workers and leave out those that do not start; BackendUnavailable where fewer than two do."""
        self.missing: dict[str, str] = {}
        try:
            for action in ("launch", "wait"):  # all load at the same time
                for worker in list(self.workers):
                    try:
                        getattr(worker, action)()
                    except BackendUnavailable as error:
                        worker.close()
                        self.workers.remove(worker)
                        self.missing[worker.name] = str(error).removeprefix(f"{worker.name}: ")
            if len(self.workers) < 2:
                why = "; ".join(f"{name}: {reason}" for name, reason in self.missing.items())
                raise BackendUnavailable(f"an audit needs two backends, this machine has {len(self.workers)} ({why})")
        except BaseException:
            self.close()
            raise
        return self


def default_backends() -> list[str]:
    """One backend for each library that does not need the system's packages, with the kernels that it chooses."""
    first: dict[str, str] = {}
    for backend in registry.known():
        if not backend.needs_system and backend.name.split(":")[0] not in REFERENCES:
            first.setdefault(backend.library, backend.name)
    return list(first.values())
