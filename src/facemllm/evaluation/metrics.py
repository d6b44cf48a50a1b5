"""Metrics of predictions against labels, each with a 95 % interval. scikit-learn does the arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facemllm.data.vocabularies import AGE_BINS, age_bin
from facemllm.evaluation.bootstrap import Array, mean_interval, recall_interval, share_interval
from facemllm.evaluation.extras import need
from facemllm.evaluation.rotations import geodesic_degrees

OTHER = "(another answer)"
"""Column of a confusion matrix for answers that are none of the dataset's labels."""

Result = dict[str, Any]


def class_metrics(
    truth: Sequence[str], predicted: Sequence[str], clusters: Sequence[Any], labels: Sequence[str]
) -> Result:
    """Return accuracy, balanced accuracy, macro F1 and the confusion matrix.

    Balanced accuracy is the mean recall of the classes that occur. An answer that is none of ``labels`` is
    wrong.

    Args:
        truth: Right labels, n of them.
        predicted: Answers, n of them.
        clusters: Person or picture of each, for the intervals.
        labels: All classes, in the order of the confusion matrix.

    Example:
        >>> result = class_metrics(["a", "a", "a", "b"], ["a", "a", "a", "a"], range(4), ["a", "b"])
        >>> result["accuracy"], result["balanced_accuracy"]
        (0.75, 0.5)
    """
    sklearn = need("sklearn.metrics", "metrics")
    present = [label for label in labels if label in set(truth)]
    answers = [answer if answer in labels else OTHER for answer in predicted]
    columns = [*labels, *([OTHER] if OTHER in answers else [])]
    options: dict[str, Any] = {"labels": present, "average": "macro", "zero_division": 0}
    hits = _hits(truth, answers)
    kinds = np.array([present.index(right) if right in present else -1 for right in truth])
    return {
        "accuracy": _round(sklearn.accuracy_score(truth, answers)),
        "balanced_accuracy": _round(sklearn.recall_score(truth, answers, **options)),
        "macro_f1": _round(sklearn.f1_score(truth, answers, **options)),
        "intervals": _intervals(
            accuracy=share_interval(hits, clusters),
            balanced_accuracy=recall_interval(hits, kinds, clusters, len(present)),
        ),
        "labels": columns,
        "confusion": sklearn.confusion_matrix(truth, answers, labels=columns)[: len(labels)].tolist(),
    }


def age_bin_metrics(truth: Sequence[str], predicted: Sequence[str], clusters: Sequence[Any]) -> Result:
    """Return the metrics of classes for age bins, and how often the answer is at most one bin away."""
    result = class_metrics(truth, predicted, clusters, AGE_BINS)
    near = np.array([float(abs(_bin(a) - _bin(b)) <= 1) for a, b in zip(truth, predicted, strict=True)])
    result["within_one_bin"] = _round(near.mean())
    result["intervals"] |= _intervals(within_one_bin=share_interval(near, clusters))
    return result


def year_metrics(truth: Sequence[float], predicted: Sequence[float], clusters: Sequence[Any]) -> Result:
    """Return mean absolute error in years, share within 5 years (CS@5), and exact and neighbouring age bins.

    Example:
        >>> result = year_metrics([20, 30], [22, 38], range(2))
        >>> result["mae"], result["cs5"], result["bin_accuracy"]
        (5.0, 0.5, 1.0)
    """
    sklearn = need("sklearn.metrics", "metrics")
    errors = np.abs(np.subtract(predicted, truth, dtype=float))
    bins = [(_bin(age_bin(a)), _bin(age_bin(b))) for a, b in zip(truth, predicted, strict=True)]
    within = (errors <= 5).astype(float)
    exact = np.array([float(a == b) for a, b in bins])
    near = np.array([float(abs(a - b) <= 1) for a, b in bins])
    return {
        "mae": _round(sklearn.mean_absolute_error(truth, predicted)),
        "median_error": _round(np.median(errors)),
        "cs5": _round(within.mean()),
        "bin_accuracy": _round(exact.mean()),
        "within_one_bin": _round(near.mean()),
        "intervals": _intervals(
            mae=mean_interval(errors, clusters),
            cs5=share_interval(within, clusters),
            bin_accuracy=share_interval(exact, clusters),
            within_one_bin=share_interval(near, clusters),
        ),
    }


def pose_metrics(
    truth: Sequence[Mapping[str, float]], predicted: Sequence[Mapping[str, float]], clusters: Sequence[Any]
) -> Result:
    """Return mean absolute error in degrees of each angle, ``mae``, their mean, and the geodesic error.

    Answers may lack an angle; each angle is scored over the answers that state it (``n_pan``, ``n_tilt``),
    and ``geodesic`` (the angle between the poses) over those that state all angles of the label.

    Example:
        >>> truth = [{"pan": 30, "tilt": 0}, {"pan": -30, "tilt": 15}]
        >>> result = pose_metrics(truth, [{"pan": 20, "tilt": 0}, {"pan": -30}], range(2))
        >>> result["mae_pan"], result["mae_tilt"], result["n_tilt"]
        (5.0, 0.0, 1)
    """
    sklearn = need("sklearn.metrics", "metrics")
    result: Result = {}
    bounds = {}
    axes = [
        axis for axis in ("pan", "tilt", "roll") if axis != "roll" or any("roll" in pose for pose in truth)
    ]
    for axis in axes:
        stated = [i for i, answer in enumerate(predicted) if axis in answer and axis in truth[i]]
        right, said = [truth[i][axis] for i in stated], [predicted[i][axis] for i in stated]
        result[f"n_{axis}"] = len(stated)
        result[f"mae_{axis}"] = _round(sklearn.mean_absolute_error(right, said)) if stated else None
        bounds[f"mae_{axis}"] = mean_interval(
            np.abs(np.subtract(said, right, dtype=float)), _picked(clusters, stated)
        )
    whole = [i for i, answer in enumerate(predicted) if truth[i].keys() <= answer.keys()]
    labels, answers = (
        [{axis: one[i][axis] for axis in truth[i]} for i in whole] for one in (truth, predicted)
    )
    angles = geodesic_degrees(labels, answers)
    result |= {"n_geodesic": len(whole), "geodesic": _round(angles.mean()) if whole else None}
    bounds["geodesic"] = mean_interval(angles, _picked(clusters, whole))
    known = [result[f"mae_{axis}"] for axis in axes if result[f"mae_{axis}"] is not None]
    return result | {"mae": _round(np.mean(known)) if known else None, "intervals": _intervals(**bounds)}


def attribute_metrics(
    names: Sequence[str], truth: Sequence[str], predicted: Sequence[str], clusters: Sequence[Any]
) -> Result:
    """Return accuracy and balanced accuracy of yes/no answers: means over attributes, and each attribute's.

    Args:
        names: Which attribute each of the n answers is about.
        truth: "yes" or "no".
        predicted: "yes" or "no".
        clusters: Person or picture of each.
    """
    each: dict[str, Result] = {}
    order = sorted(set(names))
    numbers = {name: number for number, name in enumerate(order)}
    kinds = np.fromiter((numbers[name] for name in names), np.int64, len(names))
    for number, name in enumerate(order):
        own = np.flatnonzero(kinds == number)
        right, said, who = (_picked(values, own) for values in (truth, predicted, clusters))
        full = class_metrics(right, said, who, ["yes", "no"])
        each[name] = {"n": len(own)} | {
            key: full[key] for key in ("accuracy", "balanced_accuracy", "intervals")
        }
    hits = _hits(truth, predicted)
    by_name = recall_interval(hits, kinds, clusters, len(order))
    return {
        "accuracy": _round(np.mean([one["accuracy"] for one in each.values()])),
        "balanced_accuracy": _round(np.mean([one["balanced_accuracy"] for one in each.values()])),
        "intervals": _intervals(accuracy=by_name),
        "per_attribute": each,
    }


def _hits(truth: Sequence[Any], predicted: Sequence[Any]) -> Array:
    return np.fromiter((a == b for a, b in zip(truth, predicted, strict=True)), np.float64, len(truth))


def _picked(values: Any, places: Any) -> Any:
    return values[places] if isinstance(values, np.ndarray) else [values[place] for place in places]


def _bin(name: str) -> int:
    return AGE_BINS.index(name)


def _round(value: Any) -> float:
    return round(float(value), 5)


def _intervals(**found: Any) -> dict[str, list[float] | None]:
    return {name: bounds.to_list() if bounds else None for name, bounds in found.items()}
