"""Rotary positions."""

from __future__ import annotations

from torch import Tensor

from facemllm.ops import reference
from facemllm.ops.backends import Arguments, Function, select_function


def rotary(x: Tensor, positions: Tensor, *, base: float = 10_000.0, backend: str | None = None) -> Tensor:
    """Turn each pair (i, i + D/2) of ``x`` by ``positions * base ** (-2i / D)`` (half-split, as Llama).

    Equivalent plain torch: :func:`facemllm.ops.reference.rotary`, which is what computes it: xFormers has a
    kernel for caches of its own layout only, and torch none.

    Args:
        x: Queries or keys [B, H, L, D], D even.
        positions: Position of each token, [L] or [B, L].
        base: Longest wavelength, over 2 pi.
        backend: Name of the backend that must compute it.

    Raises:
        ConfigError: If another backend than 'eager' is asked for.

    Source: RoFormer, arXiv 2104.09864, equation 34.

    Example:
        >>> import torch
        >>> rotary(torch.ones(1, 1, 1, 2), torch.zeros(1))
        tensor([[[[1., 1.]]]])
    """
    arguments = Arguments((x, positions, base))
    return select_function("rotary", _FUNCTIONS, backend, arguments)(*arguments.values)


def _reference(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return reference.rotary(x, positions, base=base)


_FUNCTIONS = {"eager": Function(lambda *arguments: [], _reference)}
