"""The two-layer perceptron of LLaVA-1.5."""

from __future__ import annotations

from torch import Tensor

from facemllm.connectors.registry import CONNECTORS, Connector
from facemllm.layers.mlp import MLP


@CONNECTORS.register("mlp")
class MLPConnector(Connector):
    """Linear, GELU, linear on each feature by itself; the hidden width is that of the language model.

    Args:
        in_dim: Din, the width of features.
        out_dim: Dout, the width of embeddings.

    Source: Improved Baselines with Visual Instruction Tuning (LLaVA-1.5), arXiv 2310.03744, section 3.3.

    Example:
        >>> import torch
        >>> MLPConnector(in_dim=8, out_dim=4)(torch.zeros(1, 3, 8)).shape
        torch.Size([1, 3, 4])
    """

    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__(name="mlp", in_dim=in_dim, out_dim=out_dim)
        self.mlp = MLP(in_dim, out_dim, out_dim)

    def num_output_tokens(self, num_tokens: int) -> int:
        """Return M = N."""
        return num_tokens

    def forward(self, features: Tensor) -> Tensor:
        """Map [B, N, Din] to [B, N, Dout]."""
        out: Tensor = self.mlp(features)
        return out
