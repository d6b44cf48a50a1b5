"""Does a model's confidence mean anything? Calibration of the probabilities it gives to options.

The probabilities are a model's likelihoods of the options, not what it says of its own confidence: models
say "0.9" whatever they see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from facemllm.evaluation.bootstrap import Array, binned_interval

BINS = 15
_FEWEST = 20


def calibration_metrics(
    probabilities: Iterable[Mapping[str, float]],
    truth: Sequence[str],
    clusters: Sequence[Any],
    bins: int = BINS,
) -> dict[str, Any]:
    """Return accuracy of the likeliest option, expected calibration error, Brier score and reliability curve.

    The expected calibration error (``ece``) is the mean distance between confidence and accuracy over bins of
    equal width, each counting by its answers. It is biased upwards for few answers: with ``bins`` bins and n
    answers, even a perfect model has one of about sqrt(bins / n) / 3.

    Source: Guo et al., arXiv 1706.04599, equation 3.

    Args:
        probabilities: Option to probability, for each of n answers.
        truth: The right option of each; one that is not among the options counts as missed.
        clusters: Person or picture of each, for the intervals.
        bins: How many bins of confidence.

    Example:
        >>> sure = [{"yes": 0.8, "no": 0.2}] * 10
        >>> result = calibration_metrics(sure, ["yes"] * 8 + ["no"] * 2, range(10))
        >>> result["ece"], result["accuracy"], result["confidence"]
        (0.0, 0.8, 0.8)
    """
    confidence, right, brier = np.zeros((3, len(truth)))
    for place, (one, label) in enumerate(zip(probabilities, truth, strict=True)):
        chosen = max(one, key=lambda option: one[option])
        confidence[place], right[place] = one[chosen], chosen == label
        brier[place] = sum((p - (option == label)) ** 2 for option, p in one.items())
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counted = (np.ones(len(right)), right, confidence)
    sums = np.concatenate([np.bincount(index, values, bins) for values in counted])
    bounds = binned_interval(counted, index, clusters, bins, _ece_of)
    return {
        "n": len(right),
        "accuracy": round(float(right.mean()), 5),
        "confidence": round(float(confidence.mean()), 5),
        "ece": round(float(_ece_of(sums)), 5),
        "brier": round(float(brier.mean()), 5),
        "intervals": {"ece": bounds.to_list() if bounds else None},
        "reliability": _curve(sums, bins),
    }


def _ece_of(sums: Array) -> Array:
    """Return the calibration error from sums [..., 3 x bins] of answers, hits and confidence."""
    counts, hits, confidence = np.split(sums, 3, axis=-1)
    return np.asarray(np.abs(hits - confidence).sum(axis=-1) / counts.sum(axis=-1))


def _curve(sums: Array, bins: int) -> list[dict[str, Any]]:
    counts, hits, confidence = np.split(sums, 3)
    return [
        {
            "from": round(i / bins, 4),
            "to": round((i + 1) / bins, 4),
            "n": int(counts[i]),
            "accuracy": round(float(hits[i] / counts[i]), 5),
            "confidence": round(float(confidence[i] / counts[i]), 5),
            "few": bool(counts[i] < _FEWEST),
        }
        for i in range(bins)
        if counts[i]
    ]
