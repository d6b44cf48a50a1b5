"""Questions that go on from a trunk, as a tree of tokens: what they begin with alike is there once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from facemllm.ops import TokenTree
from facemllm.ops.runs import depth_first


class Branches:
    """K sequences of tokens behind a trunk, and the tree that they make.

    Args:
        sequences: The tokens of each, at least one.

    Attributes:
        tokens: Those of the tree, in depth-first order [S].
        parents: For each the number of the one before it, -1 for the trunk [S].
        paths: For each sequence the numbers of its tokens.

    Example:
        >>> branches = Branches([(7, 8, 1), (7, 8, 2), (5,)])
        >>> branches.tokens, branches.parents, branches.paths
        ([7, 8, 1, 2, 5], [-1, 0, 1, 1, -1], [[0, 1, 2], [0, 1, 3], [4]])
        >>> branches.positions(10).tolist()
        [10, 11, 12, 12, 10]
    """

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        tokens: list[int] = []
        parents: list[int] = []
        paths: list[list[int]] = []
        known: dict[tuple[int, int], int] = {}
        for sequence in sequences:
            paths.append([])
            before = -1
            for token in sequence:
                key = (before, token)
                if key not in known:
                    known[key] = len(tokens)
                    tokens.append(token)
                    parents.append(before)
                before = known[key]
                paths[-1].append(before)
        order = depth_first(parents)
        number = {before: now for now, before in enumerate(order)} | {-1: -1}
        self.tokens = [tokens[before] for before in order]
        self.parents = [number[parents[before]] for before in order]
        self.paths = [[number[before] for before in path] for path in paths]

    @property
    def total(self) -> int:
        """S, the tokens of the tree."""
        return len(self.tokens)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(path) for path in self.paths]

    @property
    def ends(self) -> list[int]:
        """Number of the last token of each sequence."""
        return [path[-1] for path in self.paths]

    def mask(self, trunk: int = 0) -> TokenTree:
        """Return which token sees which, with a trunk of so many tokens before them."""
        behind = [parent + trunk for parent in self.parents]  # -1 becomes the trunk's last
        return TokenTree((*range(-1, trunk - 1), *behind))

    def positions(self, trunk: int) -> Tensor:
        """Return the position of each token [S], going on from a trunk of ``trunk`` tokens."""
        return TokenTree(tuple(self.parents)).positions() + trunk

    def left_padded(self) -> Tensor:
        """Return the numbers of each sequence's tokens, the first repeated to fill up [K, W]."""
        width = max(self.lengths)
        return torch.tensor([path[:1] * (width - len(path)) + path for path in self.paths])
