"""Results by group: value, n and interval of each, and the gap between the best and the worst.

fairlearn's MetricFrame does the splitting. Groups are as the dataset perceives people, not as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from facemllm.data.vocabularies import AGE_BINS
from facemllm.evaluation.bootstrap import LEVEL, Array, Interval, mean_interval, share_interval
from facemllm.evaluation.extras import need

SMALLEST = 20
"""Groups with fewer answers are suppressed: their value would be noise, and could point at persons."""

CROSSED = ("age_bin", "ethnicity", "gender")
"""Group columns that are also looked at two by two."""


def group_table(
    scores: Array,
    groups: Sequence[Mapping[str, str]],
    clusters: Sequence[Any] | npt.NDArray[np.int32],
    *,
    lower_is_better: bool = False,
) -> dict[str, Any]:
    """Return, by group column and by pairs of columns, the mean score of every group and the gap.

    The gap is between the best and the worst group; ``significant`` says whether its interval, widened for
    the number of pairs that were compared (Bonferroni), leaves out zero.

    Args:
        scores: One for each answer [n], such as 1 for right, or an error.
        groups: Column to group, for each answer.
        clusters: Person or picture of each answer.
        lower_is_better: Scores are errors.

    Example:
        >>> right = np.array([1.0] * 50 + [0.0] * 50)
        >>> groups = [{"side": "left"}] * 50 + [{"side": "right"}] * 50
        >>> gap = group_table(right, groups, range(100))["side"]["gap"]
        >>> gap["value"], gap["worst"], gap["significant"]
        (1.0, 'right', True)
    """
    columns = sorted({column for row in groups for column in row})
    named: list[tuple[str, ...]] = [(column,) for column in columns]
    named += combinations([column for column in CROSSED if column in columns], 2)
    table = {}
    for key in named:
        has = [i for i, row in enumerate(groups) if all(column in row for column in key)]
        names = [" / ".join(groups[i][column] for column in key) for i in has]
        if len(set(names)) > 1:
            own = clusters[has] if isinstance(clusters, np.ndarray) else [clusters[i] for i in has]
            table[" x ".join(key)] = _column(scores[has], names, own, lower_is_better)
    return table


def _column(scores: Array, names: Sequence[str], clusters: Any, lower_is_better: bool) -> dict[str, Any]:
    fairlearn = need("fairlearn.metrics", "results by group")
    frame = fairlearn.MetricFrame(
        metrics={"n": fairlearn.count, "value": fairlearn.mean_prediction},
        y_true=scores,
        y_pred=scores,
        sensitive_features=list(names),
    ).by_group
    cells: dict[str, Any] = {}
    bounds: dict[str, Interval] = {}
    for name in sorted(set(names), key=_in_order):
        count = int(frame.loc[name, "n"])
        if count < SMALLEST:
            cells[name] = {"n": count, "suppressed": True}
            continue
        own = [i for i, other in enumerate(names) if other == name]
        who: Any = clusters[own] if isinstance(clusters, np.ndarray) else [clusters[i] for i in own]
        found = (mean_interval if lower_is_better else share_interval)(scores[own], who)
        cells[name] = {
            "n": count,
            "value": round(float(frame.loc[name, "value"]), 5),
            "interval": found.to_list() if found else None,
        }
        if found:
            bounds[name] = found
    return {
        "groups": cells,
        "gap": _gap({name: cells[name]["value"] for name in bounds}, bounds, lower_is_better),
    }


def _in_order(name: str) -> list[tuple[int, str]]:
    """Return a group's place: ages as in the vocabulary ("3-9" before "10-19"), others as text."""
    return [(AGE_BINS.index(one) if one in AGE_BINS else -1, one) for one in name.split(" / ")]


def _gap(
    values: Mapping[str, float], bounds: Mapping[str, Interval], lower_is_better: bool
) -> dict[str, Any] | None:
    if len(values) < 2:
        return None
    stats = need("scipy.stats", "intervals")
    ranked = sorted(values, key=lambda name: (values[name], name), reverse=lower_is_better)
    worst, best = ranked[0], ranked[-1]
    value = abs(values[best] - values[worst])
    pairs = len(values) * (len(values) - 1) / 2
    reach = stats.norm.ppf(1 - (1 - LEVEL) / 2 / pairs) * np.hypot(bounds[best].error, bounds[worst].error)
    return {
        "value": round(value, 5),
        "best": best,
        "worst": worst,
        "interval": [round(float(value - reach), 5), round(float(value + reach), 5)],
        "significant": bool(value > reach),
    }
