"""How the tokens of one forward pass attend to each other: trunk, branches, and the step after.

Every question about a picture has the same beginning, the *trunk* (system text and image tokens), and goes on
as a *branch* of its own. A pass runs B rows; the branches of a row lie end to end, and a branch sees its
row's trunk and itself. Keys and values are kept layer by layer, so that a later pass need not read the trunk
again.

Shapes: B rows (pictures), T tokens of the trunk, K branches with S tokens in all, H heads, G key heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from facemllm.ops import (
    BlockDiagonal,
    Causal,
    Mask,
    Padding,
    PrefixTree,
    TokenTree,
    attention,
    merge_partials,
    partial_attention,
)


@dataclass(frozen=True)
class Branches:
    """K branches of a row, each a chain of tokens or a tree of them.

    Args:
        lengths: Tokens of each branch.
        parents: For each branch the parent of each of its tokens, counted in the branch, -1 for the trunk;
            none where every branch is a chain.

    Example:
        >>> Branches((2, 3)).positions(10).tolist()
        [10, 11, 10, 11, 12]
        >>> Branches((3,), ((-1, 0, 0),)).positions(10).tolist()
        [10, 11, 11]
    """

    lengths: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...] | None = None

    @property
    def total(self) -> int:
        """S, the tokens of all branches."""
        return sum(self.lengths)

    @property
    def ends(self) -> list[int]:
        """Index of the last token of each branch in the row of branches."""
        return [end - 1 for end in self._starts()[1:]]

    def positions(self, trunk: int) -> Tensor:
        """Return the position of each token [S], going on from a trunk of ``trunk`` tokens."""
        if self.parents is None:
            return torch.cat([torch.arange(trunk, trunk + length) for length in self.lengths])
        return torch.cat([TokenTree(parents).positions() + trunk for parents in self.parents])

    def mask(self) -> Mask:
        """Return which token of the branches sees which."""
        if self.parents is None:
            return BlockDiagonal(self.lengths, causal=True)
        shifted = (
            [parent + start if parent >= 0 else -1 for parent in parents]
            for start, parents in zip(self._starts(), self.parents, strict=False)
        )
        return TokenTree(tuple(parent for parents in shifted for parent in parents))

    def _starts(self) -> list[int]:
        starts = [0]
        for length in self.lengths:
            starts.append(starts[-1] + length)
        return starts

    def spans(self) -> list[tuple[int, int]]:
        """Return start and end of each branch in the row of branches."""
        return list(pairwise(self._starts()))


class KeysAndValues:
    """Keys and values of a trunk, one pair a layer, each [B, G, T, D]."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """T, the tokens of the trunk."""
        return self.layers[0][0].shape[2]

    def row(self, index: int) -> KeysAndValues:
        """Return those of one row, in memory of their own."""
        return KeysAndValues(
            [(k[index : index + 1].clone(), v[index : index + 1].clone()) for k, v in self.layers]
        )

    @property
    def nbytes(self) -> int:
        """Bytes they take."""
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)

    @staticmethod
    def stack(rows: Sequence[KeysAndValues]) -> KeysAndValues:
        """Join rows of equal length."""
        if len(rows) == 1:
            return rows[0]
        return KeysAndValues(
            [
                (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer]))
                for layer in zip(*(row.layers for row in rows), strict=True)
            ]
        )


class _Recording:
    """A pass that keeps the keys and values it has seen."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def recorded(self, start: int, end: int) -> KeysAndValues:
        """Return those of a range of tokens."""
        return KeysAndValues(
            [(k[:, :, start:end], v[:, :, start:end]) for _, (k, v) in sorted(self.seen.items())]
        )


class FirstPass(_Recording):
    """Trunk and branches together, in one reading: rows of T + S tokens.

    Args:
        trunk: T.
        branches: What follows it; none to read the trunk alone.
    """

    def __init__(self, trunk: int, branches: Branches | None) -> None:
        super().__init__()
        self.trunk = trunk
        chains = branches is None or branches.parents is None
        self.chains = PrefixTree.single(trunk, branches.lengths if branches else ()) if chains else None
        self.own = None if branches is None else branches.mask()

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        self.seen[layer] = (k, v)
        trunk = self.trunk
        if self.chains is not None:
            return attention(q, k, v, self.chains, scale=scale, dropout=dropout)
        first = attention(q[:, :, :trunk], k[:, :, :trunk], v[:, :, :trunk], Causal(), scale=scale)
        over_trunk = partial_attention(q[:, :, trunk:], k[:, :, :trunk], v[:, :, :trunk], scale=scale)
        own = partial_attention(q[:, :, trunk:], k[:, :, trunk:], v[:, :, trunk:], self.own, scale=scale)
        return torch.cat([first, merge_partials([over_trunk, own])[0]], 2)


class BranchPass(_Recording):
    """Branches on a trunk that was read before: rows of S tokens.

    Args:
        trunk: Its keys and values.
        branches: What follows it.
    """

    def __init__(self, trunk: KeysAndValues, branches: Branches) -> None:
        super().__init__()
        self.trunk, self.own = trunk, branches.mask()

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        self.seen[layer] = (k, v)
        over_trunk = partial_attention(q, *self.trunk.layers[layer], scale=scale)
        return merge_partials([over_trunk, partial_attention(q, k, v, self.own, scale=scale)])[0]


class NextTokens:
    """One more token for each branch, again and again: rows of K tokens.

    Each branch's own keys are kept at the end of a row of a common buffer, with padding before them, so that
    the next key of every branch goes to the same place.

    Args:
        trunk: Keys and values of the trunk.
        own: Those of the branches, as read [B, G, S, D].
        branches: How long each is.
        room: The most tokens that will be added to a branch.
    """

    def __init__(self, trunk: KeysAndValues, own: KeysAndValues, branches: Branches, room: int) -> None:
        self.trunk, self.filled = trunk, max(branches.lengths)
        ends = torch.tensor(branches.ends)[:, None] + 1
        lengths = torch.tensor(branches.lengths)[:, None]
        # Where in the row of branches each place of the buffer comes from; padding repeats the first token.
        places = torch.arange(self.filled)
        source = (ends - self.filled + places).maximum(ends - lengths).flatten()
        self.keep = torch.arange(self.filled + room) >= self.filled - lengths  # [K, W]

        def widened(tensor: Tensor) -> Tensor:  # [B, G, S, D] -> [B, K, G, W, D]
            rows = tensor[:, :, source.to(tensor.device)].unflatten(2, (len(lengths), self.filled))
            return torch.nn.functional.pad(rows.transpose(1, 2), (0, 0, 0, room))

        self.own = [(widened(k), widened(v)) for k, v in own.layers]

    def advance(self) -> None:
        """Make room for the next token of each branch."""
        self.filled += 1

    def keep_only(self, columns: Tensor) -> None:
        """Go on with these branches only (indices [K'])."""
        self.keep = self.keep[columns.cpu()]
        self.own = [(k[:, columns], v[:, columns]) for k, v in self.own]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        keys, values = self.own[layer]
        keys[:, :, :, self.filled - 1] = k.transpose(1, 2)
        values[:, :, :, self.filled - 1] = v.transpose(1, 2)
        rows, count = keys.shape[:2]
        mask = Padding(self.keep[:, : self.filled].repeat(rows, 1).to(q.device))
        own, lse = partial_attention(
            q.transpose(1, 2).flatten(0, 1).unsqueeze(2),  # [B, H, K, D] -> [B * K, H, 1, D]
            keys[:, :, :, : self.filled].flatten(0, 1),
            values[:, :, :, : self.filled].flatten(0, 1),
            mask,
            scale=scale,
        )
        own = own.squeeze(2).unflatten(0, (rows, count)).transpose(1, 2)
        lse = lse.squeeze(2).unflatten(0, (rows, count)).transpose(1, 2)
        return merge_partials([partial_attention(q, *self.trunk.layers[layer], scale=scale), (own, lse)])[0]


class TrainingPass:
    """A pack of several pictures, each with its own branches, laid end to end in one row.

    Args:
        tree: Their trunks and branches.
    """

    def __init__(self, tree: PrefixTree) -> None:
        self.tree = tree

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        return attention(q, k, v, self.tree, scale=scale, dropout=dropout)
