"""A tree of tokens as runs: chains of tokens without a fork.

In depth-first order what hangs on a run lies right behind it, so that a run is a causal square, and what
hangs on it a dense block below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """Tokens ``start`` to ``end``, each the only child of the one before; with descendants up to ``last``."""

    start: int
    end: int
    last: int


def depth_first(parents: Sequence[int]) -> list[int]:
    """Return the tokens of a tree in depth-first order, children in the order in which they come.

    Args:
        parents: For each token an earlier one, or -1.

    Example:
        >>> depth_first((-1, 0, 0, 1))
        [0, 1, 3, 2]
    """
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for token, parent in enumerate(parents):
        children[parent].append(token)  # those of -1 come last in the list
    order: list[int] = []
    waiting = children[-1][::-1]
    while waiting:
        token = waiting.pop()
        order.append(token)
        waiting += children[token][::-1]
    return order


def runs(parents: Sequence[int]) -> list[Run]:
    """Return the runs of a tree whose tokens are in depth-first order, in that order.

    Example:
        >>> runs((-1, 0, 1, 1))
        [Run(start=0, end=2, last=4), Run(start=2, end=3, last=3), Run(start=3, end=4, last=4)]
    """
    length = len(parents)
    ends = list(range(1, length + 1))  # of what hangs on each token
    children = [0] * length
    for token in reversed(range(length)):
        parent = parents[token]
        if parent >= 0:
            ends[parent] = max(ends[parent], ends[token])
            children[parent] += 1
    found: list[Run] = []
    for token, parent in enumerate(parents):
        if parent >= 0 and children[parent] == 1:
            found[-1] = found[-1]._replace(end=token + 1)
        else:
            found.append(Run(token, token + 1, ends[token]))
    return found
