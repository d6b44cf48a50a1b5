"""Pictures in passes: each of a source once, in a seeded order, before any of it comes again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Passes:
    """Which picture of which source each draw takes.

    Sources are drawn by weight, each going through its pictures in an order of its own in every pass. The
    draws of a step depend on the seed and the step alone: how far each source is by then is counted from the
    draws before it, so that a run may go on at any step, in any number of processes.

    Args:
        sizes: Pictures of each source.
        weights: Share of each.
        pictures: Drawn in a step.
        seed: Of all choices.

    Example:
        >>> passes = Passes([3], [1.0], pictures=2, seed="a")
        >>> drawn = [row for step in range(3) for _, row in passes(step)]
        >>> sorted(drawn[:3]), sorted(drawn[3:]), drawn[4:] == [row for _, row in passes(2)]
        ([0, 1, 2], [0, 1, 2], True)
    """

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], *, pictures: int, seed: object
    ) -> None:
        self.sizes, self.weights, self.pictures, self.seed = list(sizes), list(weights), pictures, seed
        self._taken = (0, [0] * len(self.sizes))
        self._orders: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}

    def __call__(self, step: int) -> list[tuple[int, int]]:
        """Return source and row of each picture of a step."""
        before, taken = self._taken
        if step < before:
            before, taken = 0, [0] * len(self.sizes)
        for earlier in range(before, step):
            for source in self._sources(earlier):
                taken[source] += 1
        self._taken = (step, taken)
        counts, drawn = list(taken), []
        for source in self._sources(step):
            number, place = divmod(counts[source], self.sizes[source])
            drawn.append((source, int(self._order(source, number)[place])))
            counts[source] += 1
        return drawn

    def _sources(self, step: int) -> list[int]:
        rng = random.Random(f"{self.seed}/sources/{step}")
        return rng.choices(range(len(self.sizes)), self.weights, k=self.pictures)

    def _order(self, source: int, number: int) -> npt.NDArray[np.int64]:
        """Return the order of a source in its n-th pass; only the current one is kept."""
        known = self._orders.get(source)
        if known is None or known[0] != number:
            seed = random.Random(f"{self.seed}/order/{source}/{number}").getrandbits(64)
            known = (number, np.random.default_rng(seed).permutation(self.sizes[source]))
            self._orders[source] = known
        return known[1]
