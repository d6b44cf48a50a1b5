"""Progress bars, and a log that programs can read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from facemllm.core.errors import TrainingError

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

    A line that a killed run did not finish is ended when the next run begins; readers leave it out.

    Args:
        path: The file; it is added to.
        enabled: Whether this process writes; of many, one does.
        trackers: Also get every number, see :mod:`facemllm.training.trackers`.
    """

    def __init__(self, path: Path, *, enabled: bool = True, trackers: Sequence[Any] = ()) -> None:
        self.path, self.enabled, self.trackers = path, enabled, list(trackers)
        if enabled:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                with path.open("a") as file:
                    file.write("\n")

    def write(self, **values: Any) -> None:
        """Add a line with the time and ``values``.

        Raises:
            TrainingError: If it cannot be written, for example on a full disk.
        """
        if not self.enabled:
            return
        try:
            with self.path.open("a") as file:
                file.write(json.dumps({"time": round(time.time(), 2), **values}) + "\n")
        except OSError as error:
            raise TrainingError(
                "cannot write the log",
                given=f"{self.path} ({error})",
                expected="room on the disk, and the right to write there",
                do="make room, then go on with resume=True; the checkpoints are intact",
            ) from error
        for tracker in self.trackers:
            tracker.write(values)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; of a step that was taken twice, the later one; a torn line is left out.

    A run that goes on from a checkpoint takes the steps after it again.
    """
    if not path.is_file():
        return []
    lines: dict[Any, dict[str, Any]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            values = json.loads(text)
        except ValueError:
            continue
        if isinstance(values, dict):
            step = values.get("step")
            key = number if step is None else (values.get("phase"), step, "held_out" in values)
            lines.pop(key, None)
            lines[key] = values
    return list(lines.values())
