"""Masks as blocks: how a mask falls into rectangles that a kernel computes without being given a mask.

Every pair of query and key that a mask allows lies in exactly one block. A block is dense (each of its
queries sees each of its keys), causal (a square whose query i sees keys 0 to i) or reversed (query i sees
keys i to the end: a causal square read backwards). Attention over the blocks of a query is merged.

What two masks both allow is found block by block: two rectangles have a rectangle in common, and each of
them bounds how far a key may lie behind or before its query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import singledispatch
from itertools import accumulate
from typing import NamedTuple

from facemllm.ops.masks import BlockDiagonal, Both, Causal, Full, Mask, PrefixTree, Sliding, TokenTree
from facemllm.ops.runs import depth_first, runs

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
def _sliding(mask: Sliding, queries: int, keys: int) -> Iterator[Block]:
    shift = keys - queries
    yield from _band(0, queries, 0, keys, shift - mask.window + 1, shift)


@_blocks.register
def _block_diagonal(mask: BlockDiagonal, queries: int, keys: int) -> Iterator[Block]:
    key_lengths = mask.checked_key_lengths(queries, keys)
    rows, starts = accumulate(mask.lengths, initial=0), accumulate(key_lengths, initial=0)
    for row, count, key, key_count in zip(rows, mask.lengths, starts, key_lengths, strict=False):
        if mask.causal:
            yield from _lower(row, row + count, key, key + key_count)
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
def _token_tree(mask: TokenTree, queries: int, keys: int) -> Iterator[Block] | None:
    mask.check_lengths(queries, keys)
    order = depth_first(mask.parents)
    in_order = all(a == b for a, b in enumerate(order))
    return tree_blocks(mask.parents) if in_order else None


@_blocks.register
def _both(mask: Both, queries: int, keys: int) -> Iterator[Block] | None:
    first, second = blocks(mask.first, queries, keys), blocks(mask.second, queries, keys)
    return None if first is None or second is None else _common(first, second)


def tree_blocks(parents: Sequence[int]) -> Iterator[Block]:
    """Yield the blocks of a token tree in depth-first order: of each run, itself and what hangs on it."""
    for run in runs(parents):
        length = run.end - run.start
        yield Block(run.start, length, run.start, length, CAUSAL)
        yield Block(run.end, run.last - run.end, run.start, length)


def _common(first: Sequence[Block], second: Sequence[Block]) -> Iterator[Block]:
    for a in first:
        for b in second:
            row, key = max(a.row, b.row), max(a.key, b.key)
            end = min(a.row + a.rows, b.row + b.rows)
            last = min(a.key + a.keys, b.key + b.keys)
            low, high = -end, last  # no bounds
            for block in (a, b):
                if block.kind == CAUSAL:
                    high = min(high, block.key - block.row)
                elif block.kind == REVERSED:
                    low = max(low, block.key - block.row)
            if row < end and key < last:
                yield from _band(row, end, key, last, low, high)


def _lower(row: int, end: int, key: int, last: int) -> Iterator[Block]:
    """Causal, the last query being that of the last key; queries before the first key have none."""
    return _band(row, end, key, last, -end, last - end)


def _band(row: int, end: int, key: int, last: int, low: int, high: int) -> Iterator[Block]:
    """Queries ``row`` to ``end`` over keys ``key`` to ``last``; query i sees keys i + low to i + high."""
    row, end = max(row, key - high), min(end, last - low)
    while row < end and low <= high:
        count = min(end - row, high - low + 1)
        # Keys before the highest of the first query: too low for some of the later queries.
        left, middle = max(key, row + low), min(last, row + high)
        early = min(count, left - low - row + 1)
        yield Block(row, early, left, middle - left)
        yield from _upper(row + early, count - early, row + early + low, middle - row - early - low)
        # The others: too high for some of the earlier queries.
        middle = max(key, row + high)
        late = max(0, row + count - middle + high)
        square = min(late, last - middle)
        yield Block(middle - high, square, middle, square, CAUSAL)
        yield Block(middle - high + square, late - square, middle, last - middle)
        row += count


def _upper(row: int, rows: int, key: int, keys: int) -> Iterator[Block]:
    """Query i sees key i and later; queries after the last key have none."""
    square = min(rows, keys)
    yield Block(row, square, key, square, REVERSED)
    yield Block(row, square, key + square, keys - square)
