"""The virtual-node laboratory: nodes and pods on one kernel, with real sockets, for the demo, the
devnet, the end-to-end tests and the benchmarks.

    with VirtualNode(pods=["client", "a", "b"]) as node:
        node["a"].serve(server.http, "a", 8080)
        print(node["client"].run(client.ask, node["a"].v4, 8080))
"""

from . import client, manifests, server, tool
from .cleanup import cleanup_stale, close_all, leftovers
from .kernel import LabError, cgroup2_root, require_root
from .manifests import Manifests
from .node import VirtualNode, VirtualPod, join
from .waiting import Hang, wait_until
from .weftd import (
    CommandFailed,
    Weftd,
    binary,
    build_dir,
    parse_metrics,
    proxy_binary,
    proxy_build_dir,
)
from .worker import RemoteError

__all__ = [
    "CommandFailed",
    "Hang",
    "LabError",
    "Manifests",
    "RemoteError",
    "VirtualNode",
    "VirtualPod",
    "Weftd",
    "binary",
    "build_dir",
    "cgroup2_root",
    "cleanup_stale",
    "client",
    "close_all",
    "join",
    "leftovers",
    "manifests",
    "parse_metrics",
    "proxy_binary",
    "proxy_build_dir",
    "require_root",
    "server",
    "tool",
    "wait_until",
]
