"""Parts: the blocks of a mask gathered so that a kernel takes many of them at once.

A kernel computes a batch of sequences that are all dense or all causal. Blocks of about the same size are
laid side by side as such a batch, padded on the right: under a causal mask no query sees what is to its
right, so the padding needs no mask. Kernels for sequences of different lengths take all blocks of a kind, end
to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from facemllm.ops.blocks import CAUSAL, DENSE, REVERSED, Block, blocks, tree_blocks
from facemllm.ops.masks import (
    BlockDiagonal,
    Both,
    Causal,
    Full,
    Mask,
    Padding,
    PrefixTree,
    Sliding,
    TokenTree,
)
from facemllm.ops.runs import Run, depth_first, runs

# Pairs of query and key computed in vain that cost about as much as one more call of a kernel, and the pairs
# of a block from which on a call of its own is cheap beside it.
FREE_PADDING, LARGE = 4096, 16384

# From how many parts on that all have a query in common a tree is not cut for kernels without masks.
DEEP = 16

# Masks whose parts depend on numbers only, so that they can be kept from one layer to the next.
_OF_NUMBERS = (type(None), Full, Causal, BlockDiagonal, PrefixTree, Sliding, TokenTree)


@dataclass(frozen=True, eq=False)
class Rows:
    """Positions in a sequence, as n sequences of m side by side.

    Args:
        index: Positions [n, m]; where a sequence is shorter its last position is repeated.
        start: First position if they are all there in order, so that no gathering is needed.
        real: Numbers, in the flattened ``index``, of those that are not padding; none if all are real.
    """

    index: Tensor
    start: int | None = None
    real: Tensor | None = None

    @property
    def where(self) -> Any:
        """What to index a sequence with, to write what ``back`` returns."""
        if self.start is not None:
            return slice(self.start, self.start + self.index.numel())
        return self.index.flatten() if self.real is None else self.index.flatten()[self.real]

    def is_all_of(self, length: int) -> bool:
        """Return whether it is a whole sequence as it is."""
        return self.start == 0 and self.index.shape == (1, length)

    def padding(self) -> Tensor | None:
        """Return True where ``index`` is padding [n, m]; none if nowhere."""
        if self.real is None:
            return None
        padding = torch.ones(self.index.numel(), dtype=torch.bool, device=self.index.device)
        padding[self.real] = False
        return padding.view(self.index.shape)

    def take(self, x: Tensor) -> Tensor:
        """Gather [B, H, L, ...] into [B * n, H, m, ...]."""
        x = x.transpose(1, 2)
        if self.start is not None:
            x = x[:, self.start : self.start + self.index.numel()]
        else:
            x = x.index_select(1, self.index.flatten())
        return x.reshape(x.shape[0] * self.index.shape[0], self.index.shape[1], *x.shape[2:]).transpose(1, 2)

    def add(self, total: Tensor, part: Tensor) -> None:
        """Add [B * n, H, m, ...] to [B, L, H, ...]; a position may be there more than once."""
        if self.start is not None:
            total[:, self.where] += self.back(part)
        else:
            total.index_add_(1, self.where, self.back(part))

    def back(self, part: Tensor) -> Tensor:
        """Turn [B * n, H, m, ...] into rows [B, R, H, ...] of the R real positions ``where``."""
        count, length = self.index.shape
        part = part.transpose(1, 2)
        part = part.reshape(part.shape[0] // count, count * length, *part.shape[2:])
        return part if self.real is None else part.index_select(1, self.real)


@dataclass(frozen=True, eq=False)
class Part:
    """What a kernel computes in one call.

    Args:
        queries: Which queries.
        keys: Which keys.
        causal: Query i of each sequence sees its keys up to i.
        allowed: True where a query may see a key [n, 1, 1 or Qm, Km]; all if none.
        lengths: Numbers of queries and of keys of the sequences laid end to end in it, for kernels that take
            them so.
        first: No part before this one has any of its queries.
    """

    queries: Rows
    keys: Rows
    causal: bool = False
    allowed: Tensor | None = None
    lengths: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    first: bool = True

    def is_all_of(self, queries: int, keys: int) -> bool:
        """Return whether it is one sequence of all queries over all keys, as they are."""
        return self.queries.is_all_of(queries) and self.keys.is_all_of(keys)


@dataclass(frozen=True, eq=False)
class Plan:
    """How attention under a mask is computed.

    Args:
        parts: In the order in which they are computed.
        keep: True for keys that are seen at all [B, K]; all if none.
    """

    parts: tuple[Part, ...]
    keep: Tensor | None = None


def make_plan(
    mask: Mask | None, queries: int, keys: int, device: torch.device, *, packed: bool = False
) -> Plan | None:
    """Return how to compute attention under a mask.

    Args:
        mask: The mask.
        queries: Q.
        keys: K.
        device: Where the tensors are.
        packed: Lay blocks end to end, rather than padded side by side.

    Returns:
        The plan; none if the mask does not fall into blocks, or is a tensor and ``packed`` kernels take none.
    """
    mask, paddings = _without_padding(mask)
    keep = None
    for padding in paddings:
        real = padding.materialize(queries, keys, device)[:, 0, 0]
        keep = real if keep is None else keep & real
    if packed and keep is not None:
        return None
    if not _of_numbers(mask):
        return None if packed else Plan(_whole(mask, queries, keys, device), keep)
    try:
        found = _parts(mask, queries, keys, str(device), packed)
    except TypeError:  # made of lists, which have no hash
        found = _parts.__wrapped__(mask, queries, keys, str(device), packed)
    return None if found is None else Plan(found, keep)


def _of_numbers(mask: Mask | None) -> bool:
    if isinstance(mask, Both):
        return _of_numbers(mask.first) and _of_numbers(mask.second)
    return isinstance(mask, _OF_NUMBERS)


def _without_padding(mask: Mask | None) -> tuple[Mask | None, list[Padding]]:
    if isinstance(mask, Padding):
        return None, [mask]
    if not isinstance(mask, Both):
        return mask, []
    (first, of_first), (second, of_second) = map(_without_padding, (mask.first, mask.second))
    rest = (first or second) if first is None or second is None else Both(first, second)
    return rest, of_first + of_second


def _whole(mask: Mask | None, queries: int, keys: int, device: torch.device) -> tuple[Part, ...]:
    """One part with the mask in full."""
    allowed = (mask or Full()).materialize(queries, keys, device)
    rows, cols = (Rows(torch.arange(n, device=device)[None], 0) for n in (queries, keys))
    part = Part(rows, cols, allowed=allowed[(None,) * (4 - allowed.dim())])
    return (part,) if queries and keys else ()


@lru_cache(maxsize=64)
def _parts(mask: Mask | None, queries: int, keys: int, device: str, packed: bool) -> tuple[Part, ...] | None:
    if isinstance(mask, TokenTree):
        mask.check_lengths(queries, keys)
        found = _tree_parts(mask, packed)
    else:
        of_mask = blocks(mask, queries, keys)
        found = None if of_mask is None else _arranged(of_mask, packed)
    if found is None:
        return None
    touched = torch.zeros(queries, dtype=torch.bool)
    parts = []
    for part in found:
        where = part.queries.where
        rows, cols = _to(part.queries, device), _to(part.keys, device)
        allowed = None if part.allowed is None else part.allowed.to(device)
        first = not bool(touched[where].any())
        parts.append(replace(part, queries=rows, keys=cols, allowed=allowed, first=first))
        touched[where] = True
    return tuple(parts)


def _arranged(of_mask: Sequence[Block], packed: bool, order: Tensor | None = None) -> list[Part]:
    """Return blocks as parts, none of which has a query twice; ``order`` says which token each number is."""
    arrange = _pack if packed else _pad
    found: list[Part] = []
    for kind in (DENSE, CAUSAL, REVERSED):
        for group in _apart([block for block in of_mask if block.kind == kind]):
            found += arrange(group, order)
    return found


def _apart(group: Sequence[Block]) -> list[list[Block]]:
    """Share blocks out so that those of a list have no query in common."""
    lists: list[list[Block]] = []
    for block in sorted(group):
        for found in lists:
            if found[-1].row + found[-1].rows <= block.row:
                found.append(block)
                break
        else:
            lists.append([block])
    return lists


def _pack(group: Sequence[Block], order: Tensor | None = None) -> list[Part]:
    """One part of one sequence: blocks of a kind end to end."""
    rows = torch.cat([_span(block.row, block.rows, block.kind, order) for block in group])
    cols = torch.cat([_span(block.key, block.keys, block.kind, order) for block in group])
    lengths = tuple(block.rows for block in group), tuple(block.keys for block in group)
    causal = group[0].kind != DENSE
    return [Part(_rows([rows]), _rows([cols]), causal, None, lengths)]


def _pad(group: Sequence[Block], order: Tensor | None = None) -> list[Part]:
    """Parts of blocks of about the same size, side by side."""
    parts = []
    for bucket in _buckets(sorted(group, key=lambda block: (-block.keys, -block.rows))):
        bucket = sorted(bucket)
        rows = _rows([_span(block.row, block.rows, block.kind, order) for block in bucket])
        cols = _rows([_span(block.key, block.keys, block.kind, order) for block in bucket])
        causal = bucket[0].kind != DENSE
        # A causal block is a square: its padded keys are to the right of all its queries.
        padding = None if causal else cols.padding()
        parts.append(Part(rows, cols, causal, None if padding is None else ~padding[:, None, None]))
    return parts


def _buckets(group: Sequence[Block]) -> list[list[Block]]:
    buckets: list[list[Block]] = []
    rows = used = 0
    for block in group:
        if buckets:
            wide = max(rows, block.rows) * buckets[-1][0].keys * (len(buckets[-1]) + 1)
            real = used + block.rows * block.keys
            if wide == real or (wide - real <= FREE_PADDING and block.rows * block.keys < LARGE):
                buckets[-1].append(block)
                rows, used = max(rows, block.rows), real
                continue
        buckets.append([block])
        rows, used = block.rows, block.rows * block.keys
    return buckets


def _tree_parts(mask: TokenTree, packed: bool) -> list[Part] | None:
    """Runs and what hangs on them; small trees as a whole, side by side, each with a mask of its own size."""
    tokens = depth_first(mask.parents)
    place = {token: number for number, token in enumerate(tokens)}
    parents = [place.get(mask.parents[token], -1) for token in tokens]
    order = None if tokens == list(range(len(tokens))) else torch.tensor(tokens)
    if packed:
        of_tree = [block for block in tree_blocks(parents) if block.rows]
        dense = _apart([block for block in of_tree if block.kind == DENSE])
        return None if len(dense) > DEEP else _arranged(of_tree, packed, order)
    cut, small = _cut(runs(parents))
    found = _arranged(cut, packed, order)
    for bucket in _buckets(sorted(small, key=lambda block: -block.rows)):
        bucket = sorted(bucket)
        rows = _rows([_span(block.row, block.rows, DENSE, order) for block in bucket])
        allowed = torch.zeros(len(bucket), *rows.index.shape[1:] * 2, dtype=torch.bool)
        for of_bucket, (row, count, *_) in zip(allowed, bucket, strict=True):
            own = TokenTree(tuple(max(parent - row, -1) for parent in parents[row : row + count]))
            of_bucket[:count, :count] = own.materialize(count, count)
        found.append(Part(rows, rows, False, allowed[:, None]))
    return found


def _cut(found: Sequence[Run]) -> tuple[list[Block], list[Block]]:
    """Return the blocks of runs that are worth parts of their own, and the trees left as they are.

    A tree of n tokens as it is costs n ** 2 pairs, most of them masked. Cut behind its first run, of r
    tokens, it costs r ** 2 / 2 for the run, r * (n - r) for what hangs on it, and two more calls.
    """
    costs: dict[int, float] = {}
    whole: dict[int, bool] = {}
    ends = {run.start: run.last for run in found}
    for run in reversed(found):
        size, length = run.last - run.start, run.end - run.start
        apart: float = length * length / 2 + length * (size - length) + 2 * FREE_PADDING
        child = run.end
        while child < run.last:
            apart += costs[child]
            child = ends[child]
        whole[run.start] = size * size <= apart
        costs[run.start] = min(size * size, apart)
    cut, small, inside = [], [], 0
    for run in found:
        if run.start < inside:
            continue
        size, length = run.last - run.start, run.end - run.start
        if whole[run.start]:
            small.append(Block(run.start, size, run.start, size))
            inside = run.last
        else:
            cut.append(Block(run.start, length, run.start, length, CAUSAL))
            cut.append(Block(run.end, run.last - run.end, run.end - length, length))
    return [block for block in cut if block.rows], small


def _span(start: int, count: int, kind: str, order: Tensor | None = None) -> Tensor:
    span = torch.arange(start, start + count)
    span = span.flip(0) if kind == REVERSED else span
    return span if order is None else order[span]


def _rows(spans: Sequence[Tensor]) -> Rows:
    longest = max(len(span) for span in spans)
    lengths = torch.tensor([len(span) for span in spans])
    index = torch.stack([torch.cat([span, span[-1:].expand(longest - len(span))]) for span in spans])
    flat, start = index.flatten(), int(index[0, 0])
    if torch.equal(flat, torch.arange(start, start + len(flat))):
        return Rows(index, start)
    if int(lengths.min()) == longest:
        return Rows(index)
    return Rows(index, None, (torch.arange(longest) < lengths[:, None]).flatten().nonzero()[:, 0])


def _to(rows: Rows, device: str) -> Rows:
    return Rows(rows.index.to(device), rows.start, None if rows.real is None else rows.real.to(device))
