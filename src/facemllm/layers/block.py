"""The transformer block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from facemllm.layers.attention import Attention
from facemllm.layers.mlp import MLP
from facemllm.ops.masks import Mask


class TransformerBlock(nn.Module):
    """Self attention, then cross attention if there is a context, then MLP, each with a residual.

    Args:
        dim: D, the width.
        heads: H; divides D.
        context_dim: Width of the context for cross attention; none for a block without it.
        mlp_ratio: Hidden width of the MLP, over D.
        norm_first: Normalise what goes into a layer (as ViT and Llama do) rather than the sum (as BERT does).
        eps: Of the layer norms.

    Example:
        >>> import torch
        >>> TransformerBlock(8, 2, context_dim=6)(torch.zeros(1, 3, 8), torch.zeros(1, 5, 6)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        context_dim: int | None = None,
        mlp_ratio: float = 4.0,
        norm_first: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(dim, heads)
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.cross = None if context_dim is None else Attention(dim, heads, context_dim=context_dim)
        self.cross_norm = None if context_dim is None else nn.LayerNorm(dim, eps=eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.mlp_norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Mask | None = None) -> Tensor:
        """Return the block's output.

        Args:
            x: [B, L, D]
            context: [B, K, Dc]; not read by a block without cross attention.
            mask: Of the self attention.

        Returns:
            [B, L, D]
        """
        x = self._add(x, self.attention_norm, lambda y: self.attention(y, mask=mask))
        if self.cross is not None and self.cross_norm is not None:
            cross = self.cross
            x = self._add(x, self.cross_norm, lambda y: cross(y, context))
        return self._add(x, self.mlp_norm, self.mlp)

    def _add(self, x: Tensor, norm: nn.LayerNorm, layer: Callable[[Tensor], Tensor]) -> Tensor:
        out: Tensor = x + layer(norm(x)) if self.norm_first else norm(x + layer(x))
        return out
