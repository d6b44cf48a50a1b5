"""Multi-head attention as a module."""

from __future__ import annotations

from torch import Tensor, nn

from facemllm.core.errors import ConfigError
from facemllm.ops.attention import attention
from facemllm.ops.masks import Mask


class Attention(nn.Module):
    """Attention from ``x`` to itself, or to a context of another width.

    Args:
        dim: D, the width of ``x`` and of the output.
        heads: H; divides D.
        context_dim: Dc, the width of the context; D if left out.

    Raises:
        ConfigError: If the heads do not divide the width.

    Example:
        >>> import torch
        >>> Attention(8, 2, context_dim=6)(torch.zeros(1, 3, 8), torch.zeros(1, 5, 6)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, dim: int, heads: int, *, context_dim: int | None = None) -> None:
        super().__init__()
        if heads < 1 or dim % heads:
            raise ConfigError(
                "the width does not divide among the heads",
                given=f"dim={dim}, heads={heads}",
                expected="dim a multiple of heads",
                do="change one of them",
            )
        context_dim = dim if context_dim is None else context_dim
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        # A bias of the keys adds the same to all scores of a query, which softmax takes away again.
        self.k = nn.Linear(context_dim, dim, bias=False)
        self.v = nn.Linear(context_dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Mask | None = None) -> Tensor:
        """Return the attended values.

        Args:
            x: Where the queries come from [B, Q, D].
            context: Where keys and values come from [B, K, Dc]; ``x`` if left out.
            mask: Which query sees which key.

        Returns:
            [B, Q, D]
        """
        context = x if context is None else context
        q, k, v = self._split(self.q(x)), self._split(self.k(context)), self._split(self.v(context))
        out: Tensor = self.out(attention(q, k, v, mask).transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, L, D] -> [B, H, L, D / H]
