"""Counts and balance of a dataset's labels and groups, gathered in one pass."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from facemllm.data.schema import FaceSample

PERCEIVED = ("gender", "ethnicity")
_NAMED = ("attributes", "action_units", "parts")
_STEP = {"age": 10, "pan": 15, "tilt": 15, "roll": 15}
_MOST = 24  # group columns with more values are identities in disguise, and are counted but not listed


class Statistics:
    """What a set of samples consists of.

    Example:
        >>> sample = FaceSample(id="1", image="1.jpg", labels={"age": 34}, dataset="mine", licence="own")
        >>> Statistics([sample]).to_dict()["labels"]["age"]["counts"]
        {'30 to 39': 1}
    """

    def __init__(self, samples: Iterable[FaceSample] = ()) -> None:
        self.total = 0
        self.splits: Counter[str] = Counter()
        self.datasets: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.consents: Counter[str] = Counter()
        self.labels: dict[str, Counter[str]] = defaultdict(Counter)
        self.named: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.untold: Counter[str] = Counter()
        self.groups: dict[str, Counter[str]] = defaultdict(Counter)
        self.crossed: dict[tuple[str, str], Counter[tuple[str, str]]] = defaultdict(Counter)
        self.by_split: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self.present: Counter[str] = Counter()
        self._identities: set[int] = set()
        for sample in samples:
            self.add(sample)

    def add(self, sample: FaceSample) -> None:
        """Count a sample."""
        self.total += 1
        split = str(sample.split)
        self.splits[split] += 1
        self.datasets[sample.dataset] += 1
        self.licences[sample.licence] += 1
        self.consents[sample.consent or "not stated"] += 1
        if sample.identity is not None:
            self._identities.add(hash(sample.identity))
        for field in ("box", "landmarks", "size", "identity"):
            self.present[field] += getattr(sample, field) is not None
        self.untold.update(sample.cannot_tell)
        for task, value in sample.labels.items():
            self._add_label(task, value, split)
        for name, group in sample.groups.items():
            self.groups[name][group] += 1
        for pair in combinations(sorted(sample.groups), 2):
            self.crossed[pair][sample.groups[pair[0]], sample.groups[pair[1]]] += 1

    def _add_label(self, task: str, value: Any, split: str) -> None:
        if task in _NAMED:
            self.present[task] += 1
            for name, holds in value.items():
                self.named[task][name][str(holds)] += 1
        elif task == "pose":
            for axis, degrees in value.items():
                self._count(axis, _bin(degrees, _STEP[axis]), split)
        elif task == "age":
            self._count(task, _bin(value, _STEP[task]), split)
        elif task == "age_range":
            self._count(task, f"{value[0]:g} to {value[1]:g}", split)
        elif isinstance(value, str) and task not in ("caption", "alt_text"):
            self._count(task, value, split)
        else:
            self.present[task] += 1

    def _count(self, task: str, label: str, split: str) -> None:
        self.labels[task][label] += 1
        self.by_split[task][split][label] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, with a measure of balance for each task and group.

        ``balance`` is the entropy over the labels that occur, as a share of the largest possible: 1 if all
        are as frequent, near 0 if one is nearly all. ``largest_to_smallest`` is the ratio of the extremes.
        """
        return {
            "samples": self.total,
            "identities": len(self._identities) or None,
            "splits": dict(sorted(self.splits.items())),
            "datasets": dict(self.datasets),
            "licences": dict(self.licences),
            "consent": dict(self.consents),
            "with": {name: count for name, count in sorted(self.present.items()) if count},
            "labels": {
                task: {
                    **_balance(counts),
                    "by_split": {
                        split: _ordered(found) for split, found in sorted(self.by_split[task].items())
                    },
                }
                for task, counts in sorted(self.labels.items())
            },
            "named": {
                task: {name: _share(counts) for name, counts in sorted(found.items())}
                for task, found in sorted(self.named.items())
            },
            "cannot_tell": dict(sorted(self.untold.items())),
            "groups": {
                name: _balance(counts) if len(counts) <= _MOST else {"values": len(counts)}
                for name, counts in sorted(self.groups.items())
            },
            "crossed_groups": {
                " x ".join(pair): {" / ".join(cell): count for cell, count in sorted(counts.items())}
                for pair, counts in sorted(self.crossed.items())
                if all(len(self.groups[name]) <= _MOST for name in pair)
            },
        }


def spoken(name: str) -> str:
    """Return how a task or group is called in front of people: gender and ethnicity are perceived, not known.

    Example:
        >>> spoken("gender"), spoken("age")
        ('perceived gender', 'age')
    """
    return f"perceived {name}" if name in PERCEIVED else name


def _bin(value: float, width: int) -> str:
    low = math.floor(value / width) * width
    return f"{low} to {low + width - 1}"


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    def key(label: str) -> tuple[float, str]:
        head = (
            label.split(" to ")[0].split("-")[0].rstrip("+")
            if not label.startswith("-")
            else label.split(" ")[0]
        )
        try:
            return float(head), label
        except ValueError:
            return math.inf, label

    return {label: counts[label] for label in sorted(counts, key=key)}


def _balance(counts: Mapping[str, int]) -> dict[str, Any]:
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count]
    entropy = -sum(share * math.log(share) for share in shares)
    return {
        "n": total,
        "counts": _ordered(counts),
        "balance": round(entropy / math.log(len(shares)), 3) if len(shares) > 1 else None,
        "largest_to_smallest": round(max(shares) / min(shares), 2),
    }


def _share(counts: Mapping[str, int]) -> dict[str, Any]:
    n = sum(counts.values())
    return {"n": n, "true": counts.get("True", 0), "share": round(counts.get("True", 0) / n, 4)}
