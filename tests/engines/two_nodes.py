"""A Ray cluster on this machine, on loopback: run as a program, it says where, and adds nodes when told to.

A line on stdin adds a node, and the process of its raylet is printed. Where the line names a folder, the node
takes itself for another machine: it has a host name of its own, and nothing in that folder.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ray._private.node
import ray._private.parameter
from ray.cluster_utils import Cluster

NODE = {
    "num_cpus": 1,
    "num_gpus": 0,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 100 << 20,
    "min_worker_port": 0,
    "max_worker_port": 0,
}


def main() -> None:
    """Start the head, and what is asked for, until stdin ends."""
    head = NODE | {"include_dashboard": False}
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
    print(cluster.address, flush=True)
    others = []
    for line in sys.stdin:
        hidden = line.strip()
        apart = ["unshare", "--mount", "--uts"] if hidden else []
        command = [*apart, sys.executable, __file__, cluster.address, hidden]
        others.append(subprocess.Popen(command, stdin=subprocess.PIPE))
    for other in others:
        other.communicate()
    cluster.shutdown()


def patiently(start: Callable[[], Any]) -> Any:
    """Start again what does not start within Ray's 30 seconds, which a busy machine may need."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:  # it is a bare one
            print(error, file=sys.stderr)
    return start()


def be_a_node(address: str, hidden: str) -> None:
    """Start a node, and wait until stdin ends."""
    if hidden:
        socket.sethostname("elsewhere")
        subprocess.run(["mount", "-t", "tmpfs", "none", hidden], check=True)
    parameters = ray._private.parameter.RayParams(
        gcs_address=address, redis_address=address, node_manager_port=0, include_log_monitor=False, **NODE
    )
    node = patiently(
        lambda: ray._private.node.Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
    )
    (raylet,) = node.all_processes["raylet"]
    print(raylet.process.pid, flush=True)
    sys.stdin.read()
    node.kill_all_processes(check_alive=False, allow_graceful=False)


if len(sys.argv) > 1:
    be_a_node(*sys.argv[1:])
else:
    main()
