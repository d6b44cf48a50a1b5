"""The progress bar: how many pictures have an end, and what they cost."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from facemllm.annotation.entries import End, Totals


class Bar:
    """A bar on standard error, redrawn a few times a second at most.

    Args:
        total: How many pictures there are, if known.
        enabled: Whether to draw.
    """

    every = 0.25  # seconds

    def __init__(self, total: int | None, *, enabled: bool = True) -> None:
        self.total, self.enabled = total, enabled
        self._progress: Any = None
        self._task: Any = None
        self._drawn = 0.0
        self._last: Totals | None = None

    def __enter__(self) -> Bar:
        if self.enabled:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("annotate"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[told]}"), console=Console(stderr=True),
            )  # fmt: skip
            self._progress.start()
            self._task = self._progress.add_task("annotate", total=self.total, told="")
        return self

    def ended(self, end: End | None, totals: Totals) -> None:
        """Take note that a picture ended."""
        now, self._last = time.monotonic(), totals
        if self._progress is not None and now - self._drawn > self.every:
            self._drawn = now
            self._draw(totals)

    def _draw(self, totals: Totals) -> None:
        told = f"{totals.records} records, {totals.images - totals.records} rejects, {totals.sent} requests"
        if totals.usage.cost:
            told += f", ${totals.usage.cost:.2f}"
        self._progress.update(self._task, completed=totals.images, told=told)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            if self._last is not None:
                self._draw(self._last)
            self._progress.stop()
