"""Which query may see which key, as objects rather than as dense tensors.

A backend takes from a mask what its kernel understands; ``materialize`` gives the dense form, which is the
meaning of the mask and what tests compare with. Masks combine by ``&``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from facemllm.ops.mask import Both, Mask, checked_mask, misfit, same

__all__ = [
    "BlockDiagonal", "Both", "Causal", "Explicit", "Full", "Mask", "Padding", "PrefixTree", "Region",
    "Sliding", "TokenTree", "checked_mask",
]  # fmt: skip


@dataclass(frozen=True)
class Causal(Mask):
    """A query sees the keys up to its own; the last query is that of the last key (as with a key cache).

    Example:
        >>> Causal().materialize(2, 3).int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [Q, K]."""
        return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Every query of an item sees the keys that are real.

    Args:
        keep: True for real keys [B, K].

    Example:
        >>> Padding(torch.tensor([[True, False]])).materialize(1, 2).tolist()
        [[[[True, False]]]]
    """

    keep: Tensor

    def leading(self) -> tuple[int, ...]:
        """See ``Mask.leading``."""
        return (*self.keep.shape[:1], 1)

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [B, 1, 1, K]."""
        if self.keep.dim() != 2 or self.keep.dtype != torch.bool:
            given = f"{self.keep.dtype} {tuple(self.keep.shape)}"
            raise misfit("Padding", given, "a bool tensor [B, K]")
        same("Padding", keys=(keys, self.keep.shape[1]))
        return self.keep.to(device)[:, None, None, :]


@dataclass(frozen=True)
class BlockDiagonal(Mask):
    """Sequences laid end to end, each seeing itself only.

    Args:
        lengths: Number of queries of each sequence.
        key_lengths: Number of keys of each; that of queries if left out.
        causal: Within a sequence, see only up to one's own position.

    Example:
        >>> BlockDiagonal((1, 2), causal=True).materialize(3, 3).int().tolist()
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    """

    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...] | None = None
    causal: bool = False

    def __post_init__(self) -> None:
        if min((*self.lengths, *(self.key_lengths or ())), default=0) < 0:
            raise misfit("BlockDiagonal", str(self), "lengths of 0 or more")

    def checked_key_lengths(self, queries: int, keys: int) -> tuple[int, ...]:
        """Return the number of keys of each sequence.

        Raises:
            ConfigError: If these are not as many as the sequences, or do not add up to the tensors' lengths.
        """
        key_lengths = self.lengths if self.key_lengths is None else self.key_lengths
        same("BlockDiagonal", sequences=(len(self.lengths), len(key_lengths)))
        same("BlockDiagonal", queries=(queries, sum(self.lengths)), keys=(keys, sum(key_lengths)))
        return key_lengths

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [Q, K]."""
        key_lengths = self.checked_key_lengths(queries, keys)
        inner: Mask = Causal() if self.causal else Full()
        blocks = [inner.materialize(q, k, device) for q, k in zip(self.lengths, key_lengths, strict=True)]
        return (
            torch.block_diag(*blocks).bool() if blocks else torch.zeros(0, 0, dtype=torch.bool, device=device)
        )


@dataclass(frozen=True)
class Full(Mask):
    """Every query sees every key."""

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [Q, K]."""
        return torch.ones(queries, keys, dtype=torch.bool, device=device)


@dataclass(frozen=True)
class Sliding(Mask):
    """A query sees itself and the keys just before it; the last query is that of the last key.

    Args:
        window: Number of keys that a query sees, its own among them.

    Example:
        >>> Sliding(2).materialize(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise misfit("Sliding", f"window={self.window}", "a window of 1 or more")

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [Q, K]."""
        causal = Causal().materialize(queries, keys, device)
        return causal & ~causal.tril(keys - queries - self.window)


@dataclass(frozen=True, eq=False)
class Region(Mask):
    """Each query is of a box in the picture and sees the cells of a grid whose centres lie in its box.

    Args:
        boxes: x1, y1, x2, y2 as fractions of the picture [B, R, 4]; query r of an item is of box r.
        rows: Cells down the grid; keys are the cells in reading order.
        columns: Cells across.

    Example:
        >>> upper_left = torch.tensor([[[0.0, 0.0, 0.5, 0.5]]])
        >>> Region(upper_left, 2, 2).materialize(1, 4).int().tolist()
        [[[[1, 0, 0, 0]]]]
    """

    boxes: Tensor
    rows: int
    columns: int

    def leading(self) -> tuple[int, ...]:
        """See ``Mask.leading``."""
        return (*self.boxes.shape[:1], 1)

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [B, 1, R, rows * columns]."""
        if self.boxes.dim() != 3 or self.boxes.shape[-1] != 4:
            raise misfit("Region", f"boxes {tuple(self.boxes.shape)}", "boxes [B, R, 4]")
        same("Region", queries=(queries, self.boxes.shape[1]), keys=(keys, self.rows * self.columns))
        x1, y1, x2, y2 = self.boxes.to(device)[..., None].unbind(2)  # each [B, R, 1]
        x = (torch.arange(self.columns, device=device) + 0.5) / self.columns
        y = (torch.arange(self.rows, device=device) + 0.5) / self.rows
        across, down = (x1 <= x) & (x <= x2), (y1 <= y) & (y <= y2)  # [B, R, columns], [B, R, rows]
        return (down[..., :, None] & across[..., None, :]).flatten(2)[:, None]


@dataclass(frozen=True)
class PrefixTree(Mask):
    """Trees laid end to end, each a trunk and then its branches.

    A trunk is causal; a branch sees its own trunk and, causally, itself; no branch sees another, and no tree
    sees another. With the positions below this equals separate sequences, each of a trunk and one branch.
    Trunks and branches may be empty, and a tree may have no branches.

    Args:
        trunks: Number of tokens of each tree's trunk.
        branches: For each tree, the number of tokens of each branch.
        bidirectional: For each tree, start and end of the part of its trunk (counted from the trunk's start)
            that sees all of itself, besides what is before it: the tokens of an image. ``(0, 0)`` for none.

    Raises:
        ConfigError: If these are not as many, are negative, or a bidirectional part leaves its trunk.

    Example:
        >>> tree = PrefixTree((2, 1), ((1, 1), (2,)))
        >>> tree.length, tree.spans(), tree.positions().tolist()
        (7, (((2, 3), (3, 4)), ((5, 7),)), [0, 1, 2, 2, 0, 1, 2])
        >>> PrefixTree.single(2, (1, 1)).materialize(4, 4).int().tolist()
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    """

    trunks: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    bidirectional: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        spans = ((0, 0),) * len(self.trunks) if self.bidirectional is None else self.bidirectional
        same("PrefixTree", trees=(len(self.branches), len(self.trunks)))
        same("PrefixTree", **{"bidirectional parts": (len(spans), len(self.trunks))})
        lengths = [*self.trunks, *(length for tree in self.branches for length in tree)]
        inside = all(
            0 <= start <= end <= trunk for (start, end), trunk in zip(spans, self.trunks, strict=True)
        )
        if min(lengths, default=0) < 0 or not inside:
            raise misfit("PrefixTree", str(self), "lengths of 0 or more, bidirectional parts inside trunks")

    @classmethod
    def single(
        cls, trunk: int, branches: tuple[int, ...], bidirectional: tuple[int, int] | None = None
    ) -> PrefixTree:
        """Return the mask of one tree."""
        return cls((trunk,), (tuple(branches),), None if bidirectional is None else (bidirectional,))

    @property
    def length(self) -> int:
        """L, the number of tokens of all trees."""
        return sum(self.trunks) + sum(map(sum, self.branches))

    @property
    def segments(self) -> tuple[int, ...]:
        """Lengths of what lies end to end: the first trunk, its branches, the second trunk, and so on."""
        return tuple(
            length
            for trunk, tree in zip(self.trunks, self.branches, strict=True)
            for length in (trunk, *tree)
        )

    def check_lengths(self, queries: int, keys: int) -> None:
        """Refuse other numbers of queries and keys.

        Raises:
            ConfigError: If one of them is not the length of all trees.
        """
        same("PrefixTree", queries=(queries, self.length), keys=(keys, self.length))

    def trunk_spans(self) -> tuple[tuple[int, int], ...]:
        """Return start and end of each trunk in the sequence."""
        ends, start = [], 0
        for trunk, tree in zip(self.trunks, self.branches, strict=True):
            ends.append((start, start + trunk))
            start += trunk + sum(tree)
        return tuple(ends)

    def spans(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Return, for each tree, start and end of each of its branches in the sequence."""
        return tuple(
            tuple(pairwise(accumulate(tree, initial=end)))
            for (_, end), tree in zip(self.trunk_spans(), self.branches, strict=True)
        )

    def positions(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the position of each token; every branch goes on from its trunk's end. Shape [L]."""
        parts = [torch.arange(0)]
        for trunk, tree in zip(self.trunks, self.branches, strict=True):
            parts += [torch.arange(trunk), *(torch.arange(trunk, trunk + length) for length in tree)]
        return torch.cat(parts).to(device)

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [L, L]."""
        self.check_lengths(queries, keys)
        allowed = BlockDiagonal(self.segments, causal=True).materialize(queries, keys, device)
        spans = ((0, 0),) * len(self.trunks) if self.bidirectional is None else self.bidirectional
        for (start, end), tree, (first, last) in zip(self.trunk_spans(), self.branches, spans, strict=True):
            allowed[end : end + sum(tree), start:end] = True
            allowed[start + first : start + last, start + first : start + last] = True
        return allowed


@dataclass(frozen=True)
class TokenTree(Mask):
    """A tree of tokens, such as answers with a common beginning: a token sees its ancestors and itself.

    Args:
        parents: For each token the index of the token before it, which comes earlier in the list; -1 if there
            is none. There may be many such roots, so many trees may be in one list.

    Raises:
        ConfigError: If a parent does not come before its token.

    Example:
        >>> tree = TokenTree((-1, 0, 0))  # "very happy", "very sad"
        >>> tree.materialize(3, 3).int().tolist(), tree.positions().tolist()
        ([[1, 0, 0], [1, 1, 0], [1, 0, 1]], [0, 1, 1])
    """

    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        wrong = [i for i, parent in enumerate(self.parents) if not -1 <= parent < i]
        if wrong:
            raise misfit("TokenTree", f"parents {self.parents}", "each parent -1 or an earlier token")

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [L, L], L being the number of tokens."""
        self.check_lengths(queries, keys)
        allowed = torch.eye(len(self.parents), dtype=torch.bool)
        for token, parent in enumerate(self.parents):
            if parent >= 0:
                allowed[token] |= allowed[parent]
        return allowed.to(device)

    def check_lengths(self, queries: int, keys: int) -> None:
        """Refuse other numbers of queries and keys.

        Raises:
            ConfigError: If one of them is not the number of tokens.
        """
        same("TokenTree", queries=(queries, len(self.parents)), keys=(keys, len(self.parents)))

    def positions(self, device: torch.device | str = "cpu") -> Tensor:
        """Return how many ancestors each token has, to be added to the position of a root. Shape [L]."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return torch.tensor(depths, dtype=torch.long, device=device)


@dataclass(frozen=True, eq=False)
class Explicit(Mask):
    """What is given, as it is: for masks that another library has built.

    Args:
        allowed: True where a query may see a key; broadcasts to [B, H, Q, K].

    Example:
        >>> Explicit(torch.tensor([[True, False]])).materialize(1, 2).tolist()
        [[True, False]]
    """

    allowed: Tensor

    def leading(self) -> tuple[int, ...]:
        """See ``Mask.leading``."""
        return tuple(self.allowed.shape[:-2])

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``."""
        if self.allowed.dtype != torch.bool or self.allowed.dim() < 2:
            raise misfit(
                "Explicit", f"{self.allowed.dtype} {tuple(self.allowed.shape)}", "a bool tensor [..., Q, K]"
            )
        rows, columns = self.allowed.shape[-2:]
        same("Explicit", keys=(columns, keys))
        if rows != 1:
            same("Explicit", queries=(rows, queries))
        return self.allowed.to(device)
