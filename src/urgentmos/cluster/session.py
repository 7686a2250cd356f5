"""Ray for the time of a command: started on this machine, where nobody else can reach it, or joined where it runs."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from urgentmos.errors import UsageError, need

LOOPBACK = "127.0.0.1"


def _start_here(ray: Any, size: Mapping[str, Any], quiet: Mapping[str, Any]) -> None:
    """Start Ray so that all of its processes listen on loopback alone: a connection to a port of Ray can run code here.

    Ray takes the address of the network, even if 127.0.0.1 is given; except with ENABLE_RAY_CLUSTER off, as on macOS and
    Windows. UsageError if it takes another one nevertheless.

    No token is kept in the home folder, and the process for usage reports is not started: even with reports switched off it
    contacts the metadata services of three clouds.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    constants: Any = import_module("ray._private.ray_constants")
    node: Any = import_module("ray._private.node").Node
    before = constants.ENABLE_RAY_CLUSTER, node.start_api_server
    constants.ENABLE_RAY_CLUSTER, node.start_api_server = False, lambda *_, **__: None
    try:
        ray.init(address="local", include_dashboard=False, _node_ip_address=LOOPBACK, **size, **quiet)
    finally:
        constants.ENABLE_RAY_CLUSTER, node.start_api_server = before
    addresses = {node["NodeManagerAddress"] for node in ray.nodes()}
    if addresses != {LOOPBACK}:
        ray.shutdown()
        raise UsageError(
            f"--cluster local: this Ray ({ray.__version__}) listens on {', '.join(sorted(addresses))}, where others "
            "can reach it. Install the one that is tested: pip install 'urgentmos[cluster]', or use --jobs."
        )


@contextmanager
def ray_session(address: str, jobs: int | None) -> Iterator[Any]:
    """Ray, started or joined; one that runs in this process already is used and left running."""
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    ray: Any = need("ray", "cluster")
    need("ray.data", "cluster")
    running = ray.is_initialized()
    if not running:
        try:
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
            if address == "local":
                _start_here(ray, {"num_cpus": jobs} if jobs else {}, quiet)
            else:
                ray.init(address=address, **quiet)
        except UsageError:
            raise
        except Exception as e:  # Ray raises bare ones, too, where it cannot start in time
            raise UsageError(
                f"--cluster {address}: cannot be started or joined ({e}). Give local, or HOST:PORT of a Ray cluster."
            ) from e
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars = before
        if not running:
            ray.shutdown()
