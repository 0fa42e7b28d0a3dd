"""Two Ray nodes on this machine, for as long as standard input is open: ``python ray_nodes.py FOLDER``.

It prints the address of the cluster and the process ids of the raylets, in one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import ray._private.node
import ray._private.utils
from ray.cluster_utils import Cluster


class Patience:
    """The module ``time``, on whose clock a minute is six seconds: Ray waits half a minute for itself to start."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def monotonic(self) -> float:
        return time.monotonic() / 10


ray._private.node.time = Patience()
ray._private.utils.write_ray_address = lambda *_: None  # it would go to /tmp/ray, where others look for their cluster
cluster = Cluster()
lean = {"num_cpus": 2, "include_log_monitor": False, "object_store_memory": 80 * 1024**2}
nodes = [
    cluster.add_node(**lean, temp_dir=sys.argv[1], no_monitor=True, include_dashboard=False, wait=False),
    cluster.add_node(**lean, wait=False),
]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
