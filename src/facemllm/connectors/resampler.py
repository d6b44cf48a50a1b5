"""The perceiver resampler of Flamingo."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemllm.connectors.registry import CONNECTORS, Connector
from facemllm.layers.attention import Attention
from facemllm.layers.mlp import MLP


@CONNECTORS.register("resampler")
class ResamplerConnector(Connector):
    """Learned latents that look at the features and at themselves in one attention, layer by layer.

    Args:
        in_dim: Din, the width of features and, as in Flamingo, of the latents.
        out_dim: Dout, the width of embeddings.
        num_queries: M, the number of latents and so of embeddings.
        layers: Number of layers.
        heads: Attention heads of a layer; divides ``in_dim``.

    Source: Flamingo, arXiv 2204.14198, section A.1.1 (without its time embedding: there is one picture).

    Example:
        >>> import torch
        >>> connector = ResamplerConnector(in_dim=8, out_dim=4, num_queries=5, layers=1, heads=2)
        >>> connector(torch.zeros(1, 49, 8)).shape
        torch.Size([1, 5, 4])
    """

    def __init__(
        self, *, in_dim: int, out_dim: int, num_queries: int = 64, layers: int = 6, heads: int = 8
    ) -> None:
        super().__init__(
            name="resampler",
            in_dim=in_dim,
            out_dim=out_dim,
            num_queries=num_queries,
            layers=layers,
            heads=heads,
        )
        self.num_queries = num_queries
        self.latents = nn.Parameter(torch.randn(1, num_queries, in_dim) * 0.02)
        self.layers = nn.ModuleList(_Layer(in_dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(in_dim)
        self.out = nn.Linear(in_dim, out_dim)

    def num_output_tokens(self, num_tokens: int) -> int:
        """Return M, the number of latents."""
        return self.num_queries

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, N, Din] to [B, M, Dout]."""
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features)
        out: Tensor = self.out(self.norm(latents))
        return out


class _Layer(nn.Module):
    """Attention of latents to features and latents, then MLP, each with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.features_norm = nn.LayerNorm(dim)
        self.latents_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 4 * dim)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """Map latents [B, M, D] and features [B, N, D] to latents [B, M, D]."""
        queries = self.latents_norm(latents)
        latents = latents + self.attention(queries, torch.cat([self.features_norm(features), queries], dim=1))
        out: Tensor = latents + self.mlp(self.mlp_norm(latents))
        return out
