"""A weighted, seeded mixture of datasets that can be stopped anywhere and resumed exactly."""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from facemllm.core.errors import DatasetError

T = TypeVar("T")


class Mixture(Generic[T]):
    """Draws samples of several datasets in proportion to their weights.

    Each draw chooses a dataset by weight, then that dataset's next sample in a seeded order; a dataset that
    runs out is shuffled anew, so within one pass no sample repeats. The state is a few numbers: where the
    stream is, and where each dataset is.

    Args:
        datasets: Anything with a length and items by index.
        weights: One a dataset; by default their sizes. They need not sum to one; zero leaves a dataset out.
        temperature: Above one evens the weights out (``weight ** (1 / temperature)``), one keeps them.
        seed: Same seed, same stream.
        epoch_size: Iteration ends after so many draws, and the next one goes on from there; None never ends.

    Raises:
        DatasetError: If there is nothing to draw from, or weights or temperature make no sense.

    Example:
        >>> mixture = Mixture(["ab", "xyz"], weights=[1, 1], seed=1, epoch_size=4)
        >>> first = list(mixture)
        >>> state = mixture.state_dict()
        >>> second = list(mixture)
        >>> mixture.load_state_dict(state)
        >>> list(mixture) == second
        True
    """

    def __init__(
        self,
        datasets: Sequence[Sequence[T]],
        weights: Sequence[float] | None = None,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        epoch_size: int | None = None,
    ) -> None:
        self.datasets, self.seed, self.epoch_size = list(datasets), seed, epoch_size
        sizes = [len(dataset) for dataset in self.datasets]
        base = [float(weight) for weight in (sizes if weights is None else weights)]
        _check(sizes, base, temperature, epoch_size)
        tempered = [weight ** (1 / temperature) if weight else 0.0 for weight in base]
        self.probabilities = [weight / sum(tempered) for weight in tempered]
        self.drawn = 0
        self._taken = [0] * len(sizes)
        self._orders: dict[int, tuple[int, list[int]]] = {}

    def __iter__(self) -> Iterator[tuple[int, T]]:
        """Yield (index of the dataset, sample), going on from where the last iteration stood."""
        if not self.epoch_size:
            while True:
                yield self._draw()
        left = self.epoch_size - self.drawn % self.epoch_size
        for _ in range(left):
            yield self._draw()

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream stands, as plain values."""
        return {"version": 1, "drawn": self.drawn, "taken": list(self._taken), **self._identity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where the mixture that made ``state`` stood.

        Raises:
            DatasetError: If the state is of another mixture (sizes, weights or seed differ).
        """
        differing = [key for key, value in self._identity.items() if state.get(key) != value]
        if differing:
            raise DatasetError(
                "this state belongs to another mixture",
                given=", ".join(f"{key} = {state.get(key)}" for key in differing),
                expected=", ".join(f"{key} = {self._identity[key]}" for key in differing),
                do="resume with the same datasets, weights and seed, or start anew",
            )
        self.drawn, self._taken = state["drawn"], list(state["taken"])

    @property
    def _identity(self) -> dict[str, Any]:
        probabilities = [round(p, 12) for p in self.probabilities]
        return {"seed": self.seed, "sizes": [len(d) for d in self.datasets], "probabilities": probabilities}

    @cached_property
    def _cumulative(self) -> list[float]:
        return list(itertools.accumulate(self.probabilities))

    def _draw(self) -> tuple[int, T]:
        # A generator for every draw, so that the state needs no generator in it.
        point = random.Random(f"{self.seed}/draw/{self.drawn}").random() * self._cumulative[-1]
        index = bisect.bisect_right(self._cumulative, point)
        round_, place = divmod(self._taken[index], len(self.datasets[index]))
        sample = self.datasets[index][self._order(index, round_)[place]]
        self.drawn += 1
        self._taken[index] += 1
        return index, sample

    def _order(self, index: int, round_: int) -> list[int]:
        """Return the order of a dataset's samples in its n-th pass; only the current one is kept."""
        known = self._orders.get(index)
        if known is None or known[0] != round_:
            order = list(range(len(self.datasets[index])))
            random.Random(f"{self.seed}/order/{index}/{round_}").shuffle(order)
            known = self._orders[index] = (round_, order)
        return known[1]


def _check(sizes: list[int], weights: list[float], temperature: float, epoch_size: int | None) -> None:
    problem = None
    if not sizes:
        problem = "no datasets"
    elif len(weights) != len(sizes):
        problem = f"{len(weights)} weights for {len(sizes)} datasets"
    elif min(weights) < 0 or sum(weights) <= 0 or not all(weight < float("inf") for weight in weights):
        problem = f"weights {weights}"
    elif any(weight and not size for weight, size in zip(weights, sizes, strict=True)):
        problem = f"an empty dataset with a weight (sizes {sizes})"
    elif not temperature > 0:
        problem = f"temperature {temperature}"
    elif epoch_size is not None and epoch_size < 1:
        problem = f"epoch_size {epoch_size}"
    if problem:
        raise DatasetError(
            "cannot mix these datasets",
            given=problem,
            expected="a weight of zero or more for each dataset, temperature above zero, epoch_size from one",
            do="leave empty datasets out and correct the weights",
        )
