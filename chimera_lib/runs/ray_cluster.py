"""A Ray cluster: one that is there, or one of this machine that is started and ended with the sweep."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera_lib.errors import ChimeraError
from chimera_lib.runs import ray_worker
from chimera_lib.runs.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chimera_lib.runs.cells import Job
    from chimera_lib.runs.engine import Plan

_LONGEST = 16  # characters of a folder for temporary files; Ray's sockets below it may have 107 in all
_ANSWERS_WITHIN = 60.0  # seconds, for every node to say which version of the project it has
_STARTS = 4  # how often Ray may try to start here, which a busy machine can make it fail at
_OBJECTS = 128 * 1024**2  # bytes of shared memory for a Ray of this machine, through which no files travel

# For every Ray: no statistics to its makers. A task without cards sees what the local engine would let it see.
_ALWAYS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process belongs to.

    Attributes:
        ray: the module, imported and connected.
        plan: what each cell asks for.
        started: whether it was started for this sweep, on this machine.
    """

    ray: Any
    plan: Plan
    started: bool

    def task(self) -> Any:
        """The remote function that runs one cell: called with a request and a board."""
        strategy = "SPREAD"  # else Ray fills one node half before it uses the next
        return self.ray.remote(_task()).options(
            num_cpus=self.plan.cpus_per_run or 1,
            num_gpus=self.plan.gpus_per_run,
            max_retries=self.plan.retries,
            retry_exceptions=[ChildProcessError],
            scheduling_strategy=strategy,
        )

    def board(self) -> Any:
        """An actor beside this process, on which tasks write what happens."""
        here = self.ray.get_runtime_context().get_node_id()
        return self.ray.remote(_board()).options(num_cpus=0, scheduling_strategy=self._only(here)).remote()

    def check_nodes(self, job: Job) -> None:
        """Ask every node that can run cells which version of the project it has.

        Raises:
            ChimeraError: one has none, or another than this process; or none has the graphics cards of a cell.
        """
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        most = max((node["Resources"].get("GPU", 0) for node in nodes), default=0)
        if self.started and most < self.plan.gpus_per_run:
            raise ChimeraError(
                f"gpus_per_run is {self.plan.gpus_per_run:g}, but this machine has {most:g} graphics cards that Ray "
                "knows of; use --gpus-per-run 0, or --address of a cluster that has them"
            )
        if self.started:  # the tasks run from the very files of this process
            return
        question = (job.library, ray_worker.facts(), ray_worker.part_of(job))
        ask = self.ray.remote(_question())
        asked = [
            ask.options(num_cpus=0, max_retries=0, scheduling_strategy=self._only(node["NodeID"])).remote(*question)
            for node in nodes
        ]
        answered, _ = self.ray.wait(asked, num_returns=len(asked), timeout=_ANSWERS_WITHIN)
        for answer in answered:
            with contextlib.suppress(self.ray.exceptions.RayError):  # a node that is gone again; Ray knows it too
                if differs := self.ray.get(answer):
                    raise ChimeraError(differs)

    def _only(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=False)


@contextlib.contextmanager
def join(plan: Plan) -> Iterator[Cluster]:
    """The cluster at ``plan.address``, or one of this machine for as long as the block lasts.

    Raises:
        ChimeraError: Ray is not installed, or nothing answers at that address.
    """
    with _environment(plan.address):
        try:
            import ray
        except ImportError as error:
            raise ChimeraError(
                f"the ray engine needs Ray: {error}; pip install 'chimera-lib[cluster]', or use --engine local"
            ) from error
        if ray.is_initialized():  # the caller's own, in a notebook for example
            yield Cluster(ray, plan, started=False)
            return
        with contextlib.ExitStack() as stack:
            stack.callback(ray.shutdown)
            if plan.address is None:
                _start(ray, plan, stack)
            else:
                _connect(ray, plan.address)
            yield Cluster(ray, plan, started=plan.address is None)


def _start(ray: Any, plan: Plan, stack: contextlib.ExitStack) -> None:
    """Start a Ray of this machine, reachable from this machine only, its files in a folder that goes with it."""
    folder = Path(tempfile.gettempdir())
    store = Store((folder if len(str(folder)) <= _LONGEST else Path("/tmp")) / f"chr-{os.getuid()}")  # noqa: S108
    store.sweep()  # the folders of those that were killed
    scratch = stack.enter_context(store.partial())
    stack.callback(ray.shutdown)  # before its folder goes
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for attempt in range(_STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=plan.jobs * (plan.cpus_per_run or 1) or max(here, plan.cpus_per_run or 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=_OBJECTS,
                _temp_dir=str(scratch),
            )
        except Exception as error:  # Ray raises no class of its own after the half minute that it waits for itself
            if "timed out" not in str(error) or attempt == _STARTS - 1:
                reason = " ".join(str(error).split())[:200]
                raise ChimeraError(f"Ray does not start here: {reason}; try again, or use --engine local") from error
            ray.shutdown()
            _end_processes(scratch)  # it forgets those that it has started by then
        else:
            return


def _end_processes(folder: Path) -> None:
    """Kill the children of this process that work in a folder."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(folder) in word for word in child.cmdline()):
                child.kill()


def _connect(ray: Any, address: str) -> None:
    if address.startswith("ray://"):
        raise ChimeraError(
            f"address {address!r} is of a Ray client; expected HOST:PORT or auto on a machine of the cluster "
            "(from outside: ray job submit)"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ChimeraError(
            f"no Ray cluster at {address!r}: {reason}; start one by `ray start --head`, or leave --address out"
        ) from error


@contextlib.contextmanager
def _environment(address: str | None) -> Iterator[None]:
    """Ray's settings, for as long as it is in use; what the user has set stays."""
    added = dict(_ALWAYS)
    if address is None and "RAY_AUTH_MODE" not in os.environ:  # other users of this machine do not know the token
        added |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    fresh = {name: value for name, value in added.items() if name not in os.environ}
    os.environ.update(fresh)
    try:
        yield
    finally:
        for name in fresh:
            os.environ.pop(name, None)


# What follows is sent to the nodes as code, not by its name, so that a node without the project can say so.


def _task() -> Callable[..., dict[str, Any]]:
    def chimera_cell(request: dict[str, Any], board: Any) -> dict[str, Any]:
        import contextlib
        import platform

        import ray

        def tell(*event: object) -> None:
            with contextlib.suppress(ray.exceptions.RayError):  # whatever becomes of the board, the cell goes on
                ray.get(board.add.remote(event))

        node = f"{platform.node()} {ray.get_runtime_context().get_node_id()[:8]}"
        try:
            from chimera_lib.runs.ray_worker import work
        except ImportError as error:
            why = f"node {node} cannot import the project: {error}; install it there, or put it on a shared disk"
            return {"status": "failed", "why": why}
        return work({**request, "node": node}, tell)

    return chimera_cell


def _board() -> type:
    class Board:
        def __init__(self) -> None:
            self.events: list[Any] = []

        def add(self, event: Any) -> None:
            self.events.append(event)

        def take(self) -> list[Any]:
            events, self.events = self.events, []
            return events

    return Board


def _question() -> Callable[..., str]:
    def chimera_version(library: str, wanted: dict[str, str], part: tuple[str | None, bool]) -> str:
        import platform

        try:
            from chimera_lib.runs.ray_worker import difference
        except ImportError as error:
            return (
                f"node {platform.node()} cannot import the project: {error}; expected chimera_lib {wanted['version']} "
                f"as in {wanted['folder']}; install it there, or put it on a shared disk"
            )
        return difference(library, wanted, part)

    return chimera_version
