"""Progress bars, and a log that programs can read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def track(items: Iterable[T], description: str, *, enabled: bool = True) -> Iterator[T]:
    """Yield ``items`` under a progress bar with the time that is left.

    Example:
        >>> list(track([1, 2], "counting", enabled=False))
        [1, 2]
    """
    if not enabled:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    total = len(items) if isinstance(items, Sequence) else None
    yield from rich_track(items, description, total=total, console=Console(stderr=True), transient=False)


class RunLog:
    """A JSONL file: one object a line, flushed at once, so that a killed run keeps all of it.

    Args:
        path: The file; it is added to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **values: Any) -> None:
        """Add a line with the time and ``values``."""
        with self.path.open("a") as file:
            file.write(json.dumps({"time": round(time.time(), 2), **values}) + "\n")
