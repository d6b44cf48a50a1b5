"""How the tokens of one forward pass attend to each other: trunk, branches, and the step after.

Every question about a picture has the same beginning, the *trunk* (system text and image tokens), and goes on
as a *branch* of its own. A pass runs B rows; the branches of a row lie end to end, and a branch sees its
row's trunk and itself. Keys and values are kept layer by layer, so that a later pass need not read the trunk
again.

Shapes: B rows (pictures), T tokens of the trunk, K branches with S tokens in all, H heads, G key heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from facemllm.model.branches import Branches
from facemllm.ops import Causal, Padding, PrefixTree, attention, partial_attention
from facemllm.ops.split import merge_rows


class Enough(Exception):
    """Raised where all that is wanted of a forward pass is known."""


class KeysAndValues:
    """Keys and values of a trunk, one pair a layer, each [B, G, T, D]."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """T, the tokens of the trunk."""
        return self.layers[0][0].shape[2]

    @classmethod
    def of(cls, layers: dict[int, tuple[Tensor, Tensor]]) -> KeysAndValues:
        """Return those that a pass has kept, by layer."""
        return cls([pair for _, pair in sorted(layers.items())])

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


class FirstPass:
    """Trunk and branches together, in one reading: rows of T + S tokens.

    Args:
        trunk: T.
        branches: What follows it; none to read the trunk alone.

    Attributes:
        cut: Whether the last layer leaves the trunk out (see :mod:`facemllm.model.last_layer`).
    """

    def __init__(self, trunk: int, branches: Branches | None) -> None:
        self.trunk = trunk
        self.length = trunk + (0 if branches is None else branches.total)
        self.tree = Causal() if branches is None else branches.mask(trunk)
        self.own = None if branches is None else branches.mask()
        self.of_trunk: dict[int, tuple[Tensor, Tensor]] = {}
        self.of_branches: dict[int, tuple[Tensor, Tensor]] = {}
        self.cut = False
        self._keys_only = False

    @contextmanager
    def keys_only(self) -> Iterator[None]:
        """Take keys and values of the trunk from a layer, and end it there."""
        self._keys_only = True
        try:
            yield
        except Enough:
            return
        finally:
            self._keys_only = False

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        trunk = self.trunk
        if self._keys_only:
            self.of_trunk[layer] = (k, v)
            raise Enough
        if layer in self.of_trunk:  # the rest of a layer that was cut
            self.of_branches[layer] = (k, v)
            over_trunk = partial_attention(q, *self.of_trunk[layer], scale=scale)
            return merge_rows(*over_trunk, *partial_attention(q, k, v, self.own, scale=scale))[0]
        self.of_trunk[layer] = (k[:, :, :trunk], v[:, :, :trunk])
        self.of_branches[layer] = (k[:, :, trunk:], v[:, :, trunk:])
        return attention(q, k, v, self.tree, scale=scale, dropout=dropout)


class BranchPass:
    """Branches on a trunk that was read before: rows of S tokens.

    Args:
        trunk: Its keys and values.
        branches: What follows it.
    """

    def __init__(self, trunk: KeysAndValues, branches: Branches) -> None:
        self.trunk, self.own = trunk, branches.mask()
        self.of_branches: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, dropout: float
    ) -> Tensor:
        """See :class:`facemllm.language.kernels.Pack`."""
        self.of_branches[layer] = (k, v)
        over_trunk = partial_attention(q, *self.trunk.layers[layer], scale=scale)
        return merge_rows(*over_trunk, *partial_attention(q, k, v, self.own, scale=scale))[0]


class NextTokens:
    """One more token for each branch, again and again: rows of K tokens.

    Each branch's own keys are kept at the end of a row of a common buffer, with padding before them, so that
    the next key of every branch goes to the same place.

    Args:
        trunk: Keys and values of the trunk.
        own: Those of the branches' tree, as read [B, G, S, D].
        branches: The tree.
    """

    ROOM = 16  # tokens by which the buffer grows

    def __init__(self, trunk: KeysAndValues, own: KeysAndValues, branches: Branches) -> None:
        self.trunk = trunk
        source = branches.left_padded()  # [K, W]
        self.filled = source.shape[1]
        lengths = torch.tensor(branches.lengths)[:, None]
        self.keep = torch.arange(self.filled) >= self.filled - lengths  # [K, W]

        def of_each(tensor: Tensor) -> Tensor:  # [B, G, S, D] -> [B, K, G, W, D]
            rows = tensor[:, :, source.flatten().to(tensor.device)].unflatten(2, source.shape)
            return rows.transpose(1, 2)

        self.own = [(of_each(k), of_each(v)) for k, v in own.layers]
        self._mask: Padding | None = None

    def advance(self) -> None:
        """Make room for the next token of each branch."""
        self.filled += 1
        if self.filled > self.keep.shape[1]:
            self.own = [(pad(k, (0, 0, 0, self.ROOM)), pad(v, (0, 0, 0, self.ROOM))) for k, v in self.own]
            self.keep = pad(self.keep, (0, self.ROOM), value=True)
        keys, _ = self.own[0]
        self._mask = Padding(self.keep[:, : self.filled].repeat(keys.shape[0], 1).to(keys.device))

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
        own, lse = partial_attention(
            q.transpose(1, 2).flatten(0, 1).unsqueeze(2),  # [B, H, K, D] -> [B * K, H, 1, D]
            keys[:, :, :, : self.filled].flatten(0, 1),
            values[:, :, :, : self.filled].flatten(0, 1),
            self._mask,
            scale=scale,
        )
        own = own.squeeze(2).unflatten(0, (rows, count)).transpose(1, 2)
        lse = lse.squeeze(2).unflatten(0, (rows, count)).transpose(1, 2)
        return merge_rows(*partial_attention(q, *self.trunk.layers[layer], scale=scale), own, lse)[0]


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
