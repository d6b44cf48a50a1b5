"""What a mask is, how two combine, and how one that does not fit is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

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

    def leading(self) -> tuple[int, ...]:
        """Return the sizes of the dense form before [Q, K]; none where it is the same for all items."""
        return ()

    def __and__(self, other: Mask) -> Mask:
        return Both(self, checked_mask(other))


@dataclass(frozen=True)
class Both(Mask):
    """A query sees a key if both masks allow it."""

    first: Mask
    second: Mask

    def leading(self) -> tuple[int, ...]:
        """See ``Mask.leading``."""
        pairs = zip_longest(reversed(self.first.leading()), reversed(self.second.leading()), fillvalue=1)
        return tuple(one if other == 1 else other for one, other in pairs)[::-1]

    def materialize(self, queries: int, keys: int, device: torch.device | str = "cpu") -> Tensor:
        """See ``Mask.materialize``."""
        return self.first.materialize(queries, keys, device) & self.second.materialize(queries, keys, device)


def checked_mask(mask: Any) -> Mask:
    """Return a mask that is one.

    Raises:
        ConfigError: If it is a tensor, a class, or anything else.

    Example:
        >>> from facemllm.ops.masks import Causal
        >>> checked_mask(Causal())
        Causal()
    """
    if isinstance(mask, Mask):
        return mask
    what = f"a tensor {tuple(mask.shape)} of {mask.dtype}" if isinstance(mask, Tensor) else repr(mask)
    raise ConfigError(
        "attention takes masks as objects",
        given=what,
        expected="a Mask, such as Causal(), Padding(keep) or Explicit(allowed)",
        do="wrap a bool tensor that is True where a query may see a key: Explicit(allowed)",
    )


def same(name: str, **pairs: tuple[int, int]) -> None:
    """Refuse a mask where what is given and what is expected differ."""
    for what, (given, expected) in pairs.items():
        if given != expected:
            raise misfit(name, f"{given} {what}", f"{expected} {what}")


def misfit(name: str, given: str, expected: str) -> ConfigError:
    """Return the error about a mask that does not fit."""
    return ConfigError(
        f"{name} mask does not fit the tensors",
        given=given,
        expected=expected,
        do="build the mask from their lengths",
    )
