"""The querying transformer of BLIP-2, its image side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from facemllm.connectors.registry import CONNECTORS, Connector
from facemllm.layers.block import TransformerBlock


@CONNECTORS.register("qformer")
class QFormerConnector(Connector):
    """Learned queries that look at each other and, in every second block, at the features.

    Args:
        in_dim: Din, the width of features.
        out_dim: Dout, the width of embeddings.
        num_queries: M, the number of queries and so of embeddings.
        width: D, inside; BLIP-2's by default, as are the next three.
        layers: Number of blocks.
        heads: Attention heads of a block; divides ``width``.
        cross_every: The first block of so many looks at the features.

    Source: BLIP-2, arXiv 2301.12597, section 3.1.

    Example:
        >>> import torch
        >>> connector = QFormerConnector(in_dim=8, out_dim=4, num_queries=5, width=16, layers=2, heads=2)
        >>> connector(torch.zeros(1, 49, 8)).shape
        torch.Size([1, 5, 4])
    """

    def __init__(
        self,
        *,
        in_dim: int,
        out_dim: int,
        num_queries: int = 32,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        cross_every: int = 2,
    ) -> None:
        super().__init__(
            name="qformer",
            in_dim=in_dim,
            out_dim=out_dim,
            num_queries=num_queries,
            width=width,
            layers=layers,
            heads=heads,
            cross_every=cross_every,
        )
        self.num_queries = num_queries
        self.queries = nn.Parameter(torch.randn(1, num_queries, width) * 0.02)
        self.features_norm = nn.LayerNorm(in_dim)
        self.queries_norm = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                width, heads, context_dim=None if index % cross_every else in_dim, norm_first=False, eps=1e-12
            )
            for index in range(layers)
        )
        self.out = nn.Linear(width, out_dim)

    def num_output_tokens(self, num_tokens: int) -> int:
        """Return M, the number of queries."""
        return self.num_queries

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, N, Din] to [B, M, Dout]."""
        features = self.features_norm(features)
        x = self.queries_norm(self.queries).expand(len(features), -1, -1)
        for block in self.blocks:
            x = block(x, features)
        out: Tensor = self.out(x)
        return out
