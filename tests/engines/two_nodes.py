"""A Ray cluster of two nodes on this machine, on loopback: run as a program, it says where and waits.

The first line that it prints is the address, the second the process of the second node's raylet.
"""

from __future__ import annotations

import sys

import ray._private.ray_constants as constants

constants.ENABLE_RAY_CLUSTER = False  # else Ray takes the machine's outer address, and listens there

from ray.cluster_utils import Cluster  # noqa: E402  # reads the constant


def main() -> None:
    """Start, say, and wait until stdin ends."""
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    second = cluster.add_node(**node)
    (raylet,) = second.all_processes["raylet"]
    print(cluster.address, flush=True)
    print(raylet.process.pid, flush=True)
    sys.stdin.read()
    cluster.shutdown()


main()
