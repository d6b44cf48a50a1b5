"""Joining a Ray cluster, for work that spreads over many machines."""

from __future__ import annotations

import os
import socket
from typing import Any

from facemllm.core.errors import ConfigError, MissingExtraError

_PATIENCE = 10.0  # seconds for a cluster's machine to be found; Ray itself tries for much longer


def join_cluster(address: str, workers: int, *, needed_for: str) -> Any:
    """Join a Ray cluster, or start one on this machine, and return the module ``ray``.

    Args:
        address: "host:port" or "ray://host:port" of a cluster, "auto" for the one this machine is part of, or
            "local" to start one.
        workers: Processes of a cluster that is started here.
        needed_for: What it is for, for the error where Ray is missing.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If the cluster cannot be joined.
    """
    ray = import_ray(needed_for)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    try:
        if address == "local":
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        else:
            _find(address)
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ConfigError(
            "cannot join a Ray cluster",
            given=f"{address!r} ({reason})",
            expected="the address of a cluster, auto, or local",
            do="start one with `ray start --head`, or use local",
        ) from None
    return ray


def import_ray(needed_for: str) -> Any:
    """Return the module ``ray``.

    Raises:
        MissingExtraError: If Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray[data]", extra="scale", needed_for=needed_for) from None
    return ray


def _find(address: str) -> None:
    """Fail soon where nothing listens."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
