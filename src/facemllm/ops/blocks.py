"""Masks as blocks: how a mask falls into rectangles that a kernel computes without being given a mask.

Every pair of query and key that a mask allows lies in exactly one block. A block is dense (each of its
queries sees each of its keys), causal (a square whose query i sees keys 0 to i) or reversed (query i sees
keys i to the end: a causal square read backwards). Attention over the blocks of a query is merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from itertools import accumulate
from typing import NamedTuple

from facemllm.ops.masks import BlockDiagonal, Causal, Full, Mask, PrefixTree, Sliding

DENSE, CAUSAL, REVERSED = "dense", "causal", "reversed"


class Block(NamedTuple):
    """Queries ``row`` to ``row + rows`` over keys ``key`` to ``key + keys``."""

    row: int
    rows: int
    key: int
    keys: int
    kind: str = DENSE


def blocks(mask: Mask | None, queries: int, keys: int) -> list[Block] | None:
    """Return the blocks of a mask, empty ones left out; None if it does not fall into blocks.

    Example:
        >>> for block in blocks(Causal(), 2, 5):
        ...     print(block)
        Block(row=0, rows=2, key=0, keys=3, kind='dense')
        Block(row=0, rows=2, key=3, keys=2, kind='causal')
    """
    found = _blocks(Full() if mask is None else mask, queries, keys)
    return None if found is None else [block for block in found if block.rows > 0 and block.keys > 0]


@singledispatch
def _blocks(mask: Mask, queries: int, keys: int) -> Iterator[Block] | None:
    return None


@_blocks.register
def _full(mask: Full, queries: int, keys: int) -> Iterator[Block]:
    yield Block(0, queries, 0, keys)


@_blocks.register
def _causal(mask: Causal, queries: int, keys: int) -> Iterator[Block]:
    yield from _lower(0, queries, 0, keys)


@_blocks.register
def _block_diagonal(mask: BlockDiagonal, queries: int, keys: int) -> Iterator[Block]:
    key_lengths = mask.checked_key_lengths(queries, keys)
    rows, starts = accumulate(mask.lengths, initial=0), accumulate(key_lengths, initial=0)
    for row, count, key, key_count in zip(rows, mask.lengths, starts, key_lengths, strict=False):
        if mask.causal:
            yield from _lower(row, count, key, key_count)
        else:
            yield Block(row, count, key, key_count)


@_blocks.register
def _prefix_tree(mask: PrefixTree, queries: int, keys: int) -> Iterator[Block]:
    mask.check_lengths(queries, keys)
    spans = ((0, 0),) * len(mask.trunks) if mask.bidirectional is None else mask.bidirectional
    for (start, end), tree, (first, last), own in zip(
        mask.trunk_spans(), mask.branches, spans, mask.spans(), strict=True
    ):
        first, last = (start + first, start + last) if last > first else (start, start)
        real = [(a, b) for a, b in own if b > a]
        if len(real) == 1:  # a trunk with one branch is one sequence
            end, tree, real = real[0][1], (), []
        yield Block(start, first - start, start, first - start, CAUSAL)
        yield Block(first, end - first, start, last - start)  # the bidirectional part, and what follows it
        yield Block(last, end - last, last, end - last, CAUSAL)
        yield Block(end, sum(tree), start, end - start)
        for a, b in real:
            yield Block(a, b - a, a, b - a, CAUSAL)


@_blocks.register
def _sliding(mask: Sliding, queries: int, keys: int) -> Iterator[Block]:
    shift, before = keys - queries, mask.window - 1
    for row in range(max(0, -shift), queries, mask.window):
        count, key = min(mask.window, queries - row), row + shift
        yield Block(row, count, key, count, CAUSAL)
        # Of the keys before these, a query sees fewer the later it is.
        missing = max(0, before - key)
        early = min(missing + 1, count)
        yield Block(row, early, 0 if missing else key - before, before - missing)
        yield from _upper(row + early, count - early, max(0, key - before) + 1, before - missing - 1)


def _lower(row: int, rows: int, key: int, keys: int) -> Iterator[Block]:
    """Causal, the last query being that of the last key; queries before the first key have none."""
    square = min(rows, keys)
    yield Block(row, rows, key, keys - square)
    yield Block(row + rows - square, square, key + keys - square, square, CAUSAL)


def _upper(row: int, rows: int, key: int, keys: int) -> Iterator[Block]:
    """Query i sees keys i and later; queries after the last key have none."""
    square = min(rows, keys)
    yield Block(row, square, key, square, REVERSED)
    yield Block(row, square, key + square, keys - square)
