"""Which query may see which key, as objects rather than as dense tensors.

A backend takes from a mask what its kernel understands; ``materialize`` gives the dense form, which is the
meaning of the mask and what tests compare with. Masks combine by ``&``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from facemllm.core.errors import ConfigError


class Mask(ABC):
    """What a query may see."""

    @abstractmethod
    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """Return True where a query may see a key; broadcasts to [B, H, Q, K].

        Raises:
            ConfigError: If the mask is for other numbers of queries and keys.
        """

    def __and__(self, other: Mask) -> Mask:
        return Both(self, other)


@dataclass(frozen=True)
class Both(Mask):
    """A query sees a key if both masks allow it."""

    first: Mask
    second: Mask

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``."""
        return self.first.materialize(queries, keys, device) & self.second.materialize(queries, keys, device)


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

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [B, 1, 1, K]."""
        if self.keep.dim() != 2 or self.keep.dtype != torch.bool:
            given = f"{self.keep.dtype} {tuple(self.keep.shape)}"
            raise _misfit("Padding", given, "a bool tensor [B, K]")
        _same("Padding", keys=(keys, self.keep.shape[1]))
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

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [Q, K]."""
        key_lengths = self.lengths if self.key_lengths is None else self.key_lengths
        _same("BlockDiagonal", sequences=(len(self.lengths), len(key_lengths)))
        _same("BlockDiagonal", queries=(queries, sum(self.lengths)), keys=(keys, sum(key_lengths)))
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
class PrefixTree(Mask):
    """One trunk, then branches: each branch sees the trunk and, causally, itself; no branch sees another.

    With the positions below this equals as many separate sequences, each the trunk and one branch.

    Args:
        trunk: Number of tokens of the trunk, which is causal itself.
        branches: Number of tokens of each branch.

    Example:
        >>> tree = PrefixTree(2, (1, 1))
        >>> tree.materialize(4, 4).int().tolist()
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
        >>> tree.positions().tolist()
        [0, 1, 2, 2]
    """

    trunk: int
    branches: tuple[int, ...]

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``. Shape [L, L], L being the trunk and all branches."""
        length = self.trunk + sum(self.branches)
        _same("PrefixTree", queries=(queries, length), keys=(keys, length))
        allowed = BlockDiagonal((self.trunk, *self.branches), causal=True).materialize(length, length, device)
        allowed[self.trunk :, : self.trunk] = True
        return allowed

    def positions(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the position of each token; every branch goes on from the trunk's end. Shape [L]."""
        parts = [torch.arange(self.trunk, device=device)]
        parts += [torch.arange(self.trunk, self.trunk + length, device=device) for length in self.branches]
        return torch.cat(parts)

    def spans(self) -> list[tuple[int, int]]:
        """Return start and end of each branch in the sequence."""
        ends = [self.trunk]
        for length in self.branches:
            ends.append(ends[-1] + length)
        return list(pairwise(ends))


def _same(name: str, **pairs: tuple[int, int]) -> None:
    for what, (given, expected) in pairs.items():
        if given != expected:
            raise _misfit(name, f"{given} {what}", f"{expected} {what}")


def _misfit(name: str, given: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{name} mask does not fit the tensors",
        given=given,
        expected=expected,
        do="build the mask from their lengths",
    )
