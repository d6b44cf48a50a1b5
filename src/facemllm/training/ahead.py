"""The next batch is made while the model computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls a function of the step for the next step, in a thread, while the current one is worked on.

    What it returns must depend on the step alone. An error is raised when its step is asked for.

    Args:
        make: Of a step.
        steps: There is none from this one on.

    Example:
        >>> with Ahead(lambda step: step * step, steps=3) as squares:
        ...     [squares(step) for step in (0, 1, 2)]
        [0, 1, 4]
    """

    def __init__(self, make: Callable[[int], T], steps: int) -> None:
        self._make, self._steps = make, steps
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[T]] | None = None

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __call__(self, step: int) -> T:
        """Return what ``make`` gives for a step."""
        waiting, self._next = self._next, None
        if waiting is not None and waiting[0] != step:
            waiting[1].cancel()
            waiting = None
        made = waiting[1].result() if waiting is not None else self._make(step)
        if step + 1 < self._steps:
            self._next = (step + 1, self._worker.submit(self._make, step + 1))
        return made
