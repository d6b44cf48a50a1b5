"""Are two faces of one person? The ten-fold accuracy of LFW, and true accepts at a rate of false ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from facemllm.core.errors import ConfigError
from facemllm.evaluation.bootstrap import mean_interval
from facemllm.evaluation.extras import need

FALSE_ACCEPTS = (1e-1, 1e-2, 1e-3, 1e-4)
FOLDS = 10


def verification_metrics(
    scores: Sequence[float],
    same: Sequence[bool],
    *,
    folds: Sequence[int] | None = None,
    clusters: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Return ten-fold accuracy, TAR at FAR and the area under the curve.

    The threshold of each fold is the best on the other folds, as in LFW's protocol. ``tar_at_far`` is None
    where there are too few pairs of different people to measure so small a rate of false accepts.

    Args:
        scores: How alike the faces of each of n pairs are; greater is more alike.
        same: Whether they are of one person.
        folds: The official fold of each pair; by default pairs are dealt out in order, as in LFW's file.
        clusters: Who is in each pair, for the interval; by default every pair stands for itself.

    Raises:
        ConfigError: If all pairs are of one kind, or there are fewer than two folds.

    Example:
        >>> scores = [0.9, 0.1] * 20
        >>> result = verification_metrics(scores, [True, False] * 20)
        >>> result["accuracy"], result["tar_at_far"]["0.1"], result["tar_at_far"]["0.001"]
        (1.0, 1.0, None)
    """
    metrics = need("sklearn.metrics", "metrics")
    values, labels = np.asarray(scores, dtype=float), np.asarray(same, dtype=bool)
    numbers = np.arange(len(values)) * FOLDS // max(1, len(values)) if folds is None else np.asarray(folds)
    if labels.all() or not labels.any() or len(set(numbers.tolist())) < 2:
        raise ConfigError(
            "cannot measure verification",
            given=f"{int(labels.sum())} of {len(labels)} pairs are of one person",
            expected="pairs of one person and of two, in two folds or more",
            do="pass all pairs of the protocol",
        )
    right = np.zeros(len(values))
    accuracies, thresholds = [], []
    for fold in sorted(set(numbers.tolist())):
        test = numbers == fold
        threshold = best_threshold(values[~test], labels[~test])
        right[test] = (values[test] >= threshold) == labels[test]
        accuracies.append(float(right[test].mean()))
        thresholds.append(threshold)
    false, true, _ = metrics.roc_curve(labels, values, drop_intermediate=False)
    negatives = int((~labels).sum())
    bounds = mean_interval(right, range(len(right)) if clusters is None else clusters)
    return {
        "n": len(values),
        "accuracy": round(float(np.mean(accuracies)), 5),
        "standard_error": round(float(np.std(accuracies, ddof=1) / np.sqrt(len(accuracies))), 5),
        "auc": round(float(metrics.roc_auc_score(labels, values)), 5),
        "tar_at_far": {
            f"{rate:g}": round(float(true[np.searchsorted(false, rate, side="right") - 1]), 5)
            if rate * negatives >= 1
            else None
            for rate in FALSE_ACCEPTS
        },
        "thresholds": [round(value, 5) for value in thresholds],
        "intervals": {"accuracy": bounds.to_list() if bounds else None},
    }


def best_threshold(scores: Any, same: Any) -> float:
    """Return the threshold, halfway between two scores, at which most pairs are told right.

    Example:
        >>> best_threshold([0.1, 0.2, 0.6, 0.8], [False, False, True, True])
        0.4
    """
    order = np.argsort(scores)
    values, labels = np.asarray(scores, dtype=float)[order], np.asarray(same, dtype=bool)[order]
    # Cutting before position i calls everything from i on the same person.
    hits = np.concatenate([[0], np.cumsum(~labels)]) + np.concatenate([np.cumsum(labels[::-1])[::-1], [0]])
    edges = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    whole = np.concatenate([[True], values[1:] > values[:-1], [True]])  # equal scores cannot be cut apart
    return float(edges[int(np.argmax(np.where(whole, hits, -1)))])
