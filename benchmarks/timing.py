"""Ways of doing the same, timed in turns, with the memory each takes at its peak."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int, *, warmup: bool = True) -> dict[str, Any]:
    """Time two ways of doing the same in turns, so that load from elsewhere falls on both.

    Args:
        ways: The two, by name.
        rounds: How often each is timed.
        warmup: Whether to call each once before: the first call loads and allocates.

    Returns:
        Median seconds of each way, ratio of the first to the second with its smallest and largest over
        rounds, and the peak memory of each in MiB.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peak: dict[str, float] = {}
    if warmup:
        for way in ways.values():
            way()
    for _ in range(rounds):
        for name, way in ways.items():
            forget_peak()
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
            peak[name] = max(peak.get(name, 0.0), peak_mib())
    one, other = seconds.values()
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    return {
        "seconds": {name: round(statistics.median(all_), 4) for name, all_ in seconds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "peak_mib": {name: round(value) for name, value in peak.items()},
    }


def forget_peak() -> None:
    """Let Linux count peak memory from now on."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # elsewhere, the peak is that of the whole process so far


def peak_mib() -> float:
    """Return the peak resident memory in MiB since it was forgotten, or of the whole process."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
