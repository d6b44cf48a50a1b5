"""Finds a head whose classes are in another order than the labels.

Two datasets number the same seven expressions differently, and a head whose outputs are read in the wrong
order is confidently wrong: where it says "sad" the label says "happy", nearly always. Chance does not do
that. The heads fill in what samples lack, so the stages would learn it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from facemllm.core.errors import TrainingError

FEWEST = 50
"""Samples below which nothing is concluded."""

MARGIN = 0.2
"""How much better the renamed classes must fit than the given ones, and than the commonest class."""


def check_label_order(task: str, predicted: Sequence[str], true: Sequence[str]) -> None:
    """Compare predictions of a task with labels.

    Args:
        task: Its name.
        predicted: Classes that the head gives [n].
        true: Classes that the dataset gives [n].

    Raises:
        TrainingError: If the predictions fit far better once their classes are renamed one to one.

    Example:
        >>> true = ["happy", "sad"] * 40
        >>> check_label_order("expression", true, true)
        >>> check_label_order("expression", ["sad", "happy"] * 40, true)
        Traceback (most recent call last):
        facemllm.core.errors.TrainingError: labels of 'expression' are in a mixed-up order
        ...
    """
    total = len(true)
    if total < FEWEST:
        return
    meant: dict[str, str] = {}
    for name in sorted(set(predicted)):
        seen = Counter(t for p, t in zip(predicted, true, strict=True) if p == name)
        meant[name] = max(sorted(seen), key=lambda other: seen[other])
    if len(meant) < 2 or len(set(meant.values())) < len(meant):
        return
    right = sum(p == t for p, t in zip(predicted, true, strict=True)) / total
    renamed = sum(meant[p] == t for p, t in zip(predicted, true, strict=True)) / total
    commonest = max(Counter(true).values()) / total
    if renamed < max(right, commonest) + MARGIN:
        return
    told = ", ".join(
        f"its {name!r} is the dataset's {other!r}" for name, other in meant.items() if name != other
    )
    raise TrainingError(
        f"labels of {task!r} are in a mixed-up order",
        given=f"{total} samples, of which the head is right about {right:.0%}, and about {renamed:.0%} if "
        f"renamed: {told}".replace("%", " %"),
        expected="the same classes in the same order in head and dataset",
        do="give the head its classes in the order it was trained with",
    )
