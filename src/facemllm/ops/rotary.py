"""Rotary positions."""

from __future__ import annotations

from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops import reference
from facemllm.ops.backends import Arguments, Function, select_function
from facemllm.ops.checks import check_tensors, is_number


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
        ConfigError: If D is odd, the positions are not of these tokens, or the base is not above zero; or if
            another backend than 'eager' is asked for.

    Source: RoFormer, arXiv 2104.09864, equation 34.

    Example:
        >>> import torch
        >>> rotary(torch.ones(1, 1, 1, 2), torch.zeros(1))
        tensor([[[[1., 1.]]]])
    """
    check_tensors("rotary", x=x, positions=positions)
    shapes = [tuple(x.shape[-2:-1]), (*x.shape[:1], *x.shape[-2:-1]), (1, *x.shape[-2:-1])]
    if x.dim() != 4 or x.shape[-1] % 2 or not x.is_floating_point() or tuple(positions.shape) not in shapes:
        raise ConfigError(
            "rotary cannot turn these",
            given=f"x {tuple(x.shape)} of {x.dtype}, positions {tuple(positions.shape)}",
            expected="floating x [B, H, L, D] with D even, positions [L] or [B, L]",
            do="give heads an even width, and each token one position",
        )
    if not is_number(base, least=0) or base == 0:
        raise ConfigError(
            "rotary has no such base",
            given=f"base={base!r}",
            expected="a finite number above 0",
            do="pass 10_000.0, or what the model's configuration says",
        )
    arguments = Arguments((x, positions, base))
    return select_function("rotary", _FUNCTIONS, backend, arguments)(*arguments.values)


def _reference(x: Tensor, positions: Tensor, base: float) -> Tensor:
    return reference.rotary(x, positions, base=base)


_FUNCTIONS = {"eager": Function(lambda *arguments: [], _reference)}
