"""F1 of facial action units: of each unit, and their mean over folds that no subject straddles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from facemllm.core.errors import ConfigError
from facemllm.evaluation.bootstrap import Array, interval
from facemllm.evaluation.extras import need

FOLDS = 3
"""What DISFA and BP4D are commonly cut into."""


def unit_metrics(
    truth: Sequence[Collection[int]],
    predicted: Sequence[Collection[int]],
    subjects: Sequence[Any],
    units: Sequence[int],
    folds: int | Mapping[Any, int] = FOLDS,
) -> dict[str, Any]:
    """Return F1 of each action unit and the mean, pooled and over subject-exclusive folds.

    The mean over folds is what papers on DISFA and BP4D print: F1 of each unit within each fold, averaged.
    A unit that is never active and never said in a fold has no F1 there and is left out of that fold.

    Args:
        truth: Active units of each of n pictures.
        predicted: Units said to be active.
        subjects: Who is on each picture.
        units: The units that are coded in the dataset; others said are not counted.
        folds: How many folds subjects are dealt into (fewer if there are fewer subjects), or subject to fold.

    Raises:
        ConfigError: If a subject has no fold.

    Example:
        >>> truth = [{6, 12}, {4}, {6}, set()]
        >>> result = unit_metrics(truth, [{6, 12}, {4}, set(), {4}], list("aabb"), [4, 6, 12], folds=2)
        >>> result["per_unit"]["AU6"]["f1"], result["f1"]
        (0.66667, 0.77778)
    """
    metrics = need("sklearn.metrics", "metrics")
    right, said = (
        np.array([[unit in row for unit in units] for row in rows], dtype=float)
        for rows in (truth, predicted)
    )
    counts = np.stack([right * said, right, said], axis=2).reshape(len(right), -1)  # [n, units x 3]
    per_unit = {}
    for index, unit in enumerate(units):
        own = counts[:, 3 * index : 3 * index + 3]
        bounds = interval(own, subjects, _f1_of)
        precision, recall, f1, _ = metrics.precision_recall_fscore_support(
            right[:, index], said[:, index], average="binary", zero_division=0
        )
        defined = bool(right[:, index].any() or said[:, index].any())
        per_unit[f"AU{unit}"] = {
            "n": int(right[:, index].sum()),
            "f1": round(float(f1), 5) if defined else None,
            "precision": round(float(precision), 5),
            "recall": round(float(recall), 5),
            "interval": bounds.to_list() if bounds and defined else None,
        }
    known = [one["f1"] for one in per_unit.values() if one["f1"] is not None]
    bounds = interval(counts, subjects, _mean_f1_of)
    by_fold = [_mean_f1_of(counts[rows].sum(axis=0)) for rows in _folds(subjects, folds)]
    return {
        "f1": round(float(np.mean(known)), 5) if known else None,
        "f1_folds": round(float(np.nanmean(by_fold)), 5) if known else None,
        "folds": [None if np.isnan(value) else round(float(value), 5) for value in by_fold],
        "intervals": {"f1": bounds.to_list() if bounds and known else None},
        "per_unit": per_unit,
    }


def _folds(subjects: Sequence[Any], folds: int | Mapping[Any, int]) -> list[Any]:
    """Return the rows of each fold."""
    if isinstance(folds, int):
        people = sorted({str(subject) for subject in subjects})
        dealt: Mapping[Any, int] = {
            who: index % max(1, min(folds, len(people))) for index, who in enumerate(people)
        }
        numbers = np.array([dealt[str(subject)] for subject in subjects])
    else:
        missing = sorted({str(subject) for subject in subjects if subject not in folds})
        if missing:
            raise ConfigError(
                "subjects have no fold",
                given=", ".join(missing[:5]),
                expected="a fold for every subject",
                do="complete the mapping, or pass the number of folds",
            )
        numbers = np.array([folds[subject] for subject in subjects])
    return [np.flatnonzero(numbers == fold) for fold in sorted(set(numbers.tolist()))]


def _f1_of(sums: Array) -> Array:
    """Return F1 from sums [..., 3] of true positives, of labels and of answers."""
    hits, labels, answers = sums[..., 0], sums[..., 1], sums[..., 2]
    total = labels + answers
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def _mean_f1_of(sums: Array) -> Array:
    """Return the mean F1 from sums [..., units x 3], over units that occur."""
    by_unit = sums.reshape(*sums.shape[:-1], -1, 3)
    total = by_unit[..., 1] + by_unit[..., 2]
    f1 = np.divide(2 * by_unit[..., 0], total, out=np.full_like(total, np.nan), where=total > 0)
    known = ~np.isnan(f1)
    return np.asarray(np.divide(np.nansum(f1, axis=-1), known.sum(axis=-1), where=known.any(axis=-1),
                                out=np.full(f1.shape[:-1], np.nan)))  # fmt: skip
