"""The feed-forward layer."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear, GELU, linear.

    Args:
        dim: Width of the input.
        hidden: Width between the two.
        out_dim: Width of the output; ``dim`` if left out.

    Example:
        >>> import torch
        >>> MLP(4, 8, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    def __init__(self, dim: int, hidden: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(hidden, dim if out_dim is None else out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., Dout]."""
        out: Tensor = self.linear_2(self.act(self.linear_1(x)))
        return out
