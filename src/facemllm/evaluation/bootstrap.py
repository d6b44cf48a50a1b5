"""95 % intervals by bootstrap, over people where identities are known, otherwise over pictures.

Every metric here is a function of sums over samples (of hits, of errors, of hits by class). So the samples of
one person are summed once, and a resample of people is a sum of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facemllm.evaluation.extras import need

RESAMPLES = 1000
LEVEL = 0.95
_NO_WIDTH = 1e-9
_BATCH = 250_000  # numbers held at once while resampling

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        error: Standard error.
    """

    low: float
    high: float
    error: float

    def to_list(self) -> list[float]:
        """Return the bounds, rounded for a report."""
        return [round(self.low, 5), round(self.high, 5)]


def mean_of(sums: Array) -> Array:
    """Return the mean from sums [..., 2] of a score and of ones."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def mean_recall_of(sums: Array) -> Array:
    """Return balanced accuracy from sums [..., 2 x classes] of hits and of samples by class."""
    hits, counts = np.split(sums, 2, axis=-1)
    recall = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
    return np.asarray(np.nanmean(recall, axis=-1))


def interval(
    sums: Array, clusters: Sequence[Any], finish: Callable[[Array], Array] = mean_of
) -> Interval | None:
    """Return the percentile interval of a statistic.

    Args:
        sums: What each sample adds [n, F].
        clusters: Who is on each picture, or the picture's id: what is drawn with replacement.
        finish: From sums [..., F] to the statistic [...].

    Returns:
        None where there are fewer than two clusters.

    Example:
        >>> hits = np.array([1.0] * 80 + [0.0] * 20)
        >>> found = interval(np.stack([hits, np.ones(100)], axis=1), range(100))
        >>> found.low < 0.8 < found.high
        True
    """
    index, count = _numbered(clusters)
    by_cluster = np.zeros((count, sums.shape[1]))
    np.add.at(by_cluster, index, sums)
    return _drawn(by_cluster, finish)


def recall_interval(
    hits: Array, kinds: npt.NDArray[np.int64], clusters: Sequence[Any], count: int
) -> Interval | None:
    """Return the interval of the mean over kinds of the share of hits, in memory that grows with clusters.

    It is Wilson's, as in :func:`share_interval`, where every resample has the same.

    Args:
        hits: 1 for right, of each of n answers.
        kinds: Which of ``count`` classes or attributes each is about; -1 for none.
        clusters: As in :func:`interval`.
        count: How many kinds there are.
    """
    found = binned_interval((hits, np.ones_like(hits)), kinds, clusters, count, mean_recall_of)
    return _widened(found, clusters)


def binned_interval(
    values: Sequence[Array],
    kinds: npt.NDArray[np.int64],
    clusters: Sequence[Any],
    count: int,
    finish: Callable[[Array], Array],
) -> Interval | None:
    """Return the interval of a statistic of sums by kind, in memory that grows with clusters.

    Args:
        values: What each of n answers adds, V arrays [n].
        kinds: Which of ``count`` kinds each is of; -1 for none.
        clusters: As in :func:`interval`.
        count: How many kinds there are.
        finish: From sums [..., V x count] to the statistic [...].
    """
    index, people = _numbered(clusters)
    by_cluster = np.zeros((people, len(values) * count))
    of = kinds >= 0
    if not of.all():
        index, kinds, values = index[of], kinds[of], [one[of] for one in values]
    for place, one in enumerate(values):
        np.add.at(by_cluster, (index, place * count + kinds), one)
    return _drawn(by_cluster, finish)


def _numbered(clusters: Sequence[Any]) -> tuple[npt.NDArray[np.int64], int]:
    """Return the number of each answer's cluster, in the order of their names, and how many there are."""
    if isinstance(clusters, np.ndarray) and clusters.dtype.kind in "iu":
        found, index = np.unique(clusters, return_inverse=True)
        return index.astype(np.int64, copy=False), len(found)
    numbers = {name: number for number, name in enumerate(sorted({str(one) for one in clusters}))}
    return np.fromiter((numbers[str(one)] for one in clusters), np.int64, len(clusters)), len(numbers)


def _drawn(by_cluster: Array, finish: Callable[[Array], Array]) -> Interval | None:
    stats = need("scipy.stats", "intervals")
    count = len(by_cluster)
    if count < 2:
        return None

    def of_drawn(drawn: npt.NDArray[np.int64], axis: int) -> Array:
        """Return the statistic of each row of drawn clusters [R, count]: how often each counts, summed."""
        rows = np.reshape(drawn, (-1, count))
        flat = (rows + np.arange(len(rows))[:, None] * count).ravel()
        times = np.bincount(flat, minlength=rows.size).reshape(rows.shape)
        return finish(times.astype(np.float64) @ by_cluster).reshape(np.shape(drawn)[:-1])

    result = stats.bootstrap(
        (np.arange(count),),
        of_drawn,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // count),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),  # the same predictions give the same report
    )
    bounds = result.confidence_interval
    return Interval(float(bounds.low), float(bounds.high), float(result.standard_error))


def share_interval(hits: Array, clusters: Sequence[Any]) -> Interval | None:
    """Return the interval of the mean of hits [n], each 1 or 0; Wilson's where all of them are alike.

    Where everything is right, or nothing, every resample is too: the bootstrap's interval has no width,
    though 33 of 33 shows no more than a share above 90 %. Wilson's counts people as the bootstrap draws them.

    Example:
        >>> share_interval(np.ones(33), range(33)).to_list()
        [0.89573, 1.0]
    """
    return _widened(mean_interval(hits, clusters), clusters)


def _widened(found: Interval | None, clusters: Sequence[Any]) -> Interval | None:
    """Return Wilson's interval for a share that is the same in every resample, others as they are."""
    if found is None or found.high - found.low > _NO_WIDTH:
        return found
    _, count = _numbered(clusters)
    stats = need("scipy.stats", "intervals")
    share = min(max(found.low, 0.0), 1.0)
    bounds = stats.binomtest(round(share * count), count).proportion_ci(LEVEL, method="wilson")
    low, high = float(bounds.low), float(bounds.high)
    reach = float(stats.norm.ppf(0.5 + LEVEL / 2))
    return Interval(low, high, (high - low) / 2 / reach)


def mean_interval(scores: Array, clusters: Sequence[Any]) -> Interval | None:
    """Return the interval of the mean of scores [n]."""
    index, count = _numbered(clusters)
    return _drawn(np.stack([np.bincount(index, weights, count) for weights in (scores, None)], 1), mean_of)
