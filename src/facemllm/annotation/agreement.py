"""How far two annotators agree, attribute by attribute, beyond what chance would give."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from facemllm.core.errors import MissingExtraError

Counts = Iterable[tuple[int, str, str, str, int]]
"""(judge, attribute, what the annotator said, what the judge said, how often)."""


def agreement_report(counts: Counts) -> dict[str, Any]:
    """Return, for each further judge and attribute, how often both say the same, and Cohen's kappa.

    Source: Cohen 1960, A coefficient of agreement for nominal scales; computed by scikit-learn from counts,
    so that memory does not grow with the number of pictures.

    Returns:
        By judge ("1", ...): ``attributes``, each with ``n``, ``same`` (a share) and ``kappa`` (None where
        both always say one and the same thing, so that chance explains all), and ``mean_kappa`` over those
        that have one.

    Raises:
        MissingExtraError: If scikit-learn is not installed.

    Example:
        >>> counts = [(1, "bald", "yes", "yes", 20), (1, "bald", "no", "no", 15),
        ...           (1, "bald", "yes", "no", 5), (1, "bald", "no", "yes", 10)]
        >>> agreement_report(counts)["1"]["attributes"]["bald"]
        {'n': 50, 'same': 0.7, 'kappa': 0.4}
    """
    try:
        from sklearn.metrics import cohen_kappa_score
    except ImportError:
        raise MissingExtraError("scikit-learn", extra="annotate", needed_for="agreement scores") from None
    by_judge: dict[int, dict[str, list[tuple[str, str, int]]]] = defaultdict(lambda: defaultdict(list))
    for judge, attribute, one, other, n in counts:
        by_judge[judge][attribute].append((one, other, n))
    report: dict[str, Any] = {}
    for judge, attributes in sorted(by_judge.items()):
        scores = {}
        for attribute, rows in sorted(attributes.items()):
            ones, others, weights = zip(*rows, strict=True)
            total = sum(weights)
            same = sum(n for one, other, n in rows if one == other)
            kappa = math.nan
            if len({*ones, *others}) > 1:
                kappa = float(cohen_kappa_score(ones, others, sample_weight=weights))
            scores[attribute] = {
                "n": total,
                "same": round(same / total, 4),
                "kappa": None if math.isnan(kappa) else round(kappa, 4),
            }
        kappas = [score["kappa"] for score in scores.values() if score["kappa"] is not None]
        report[str(judge)] = {
            "attributes": scores,
            "mean_kappa": round(sum(kappas) / len(kappas), 4) if kappas else None,
        }
    return report
