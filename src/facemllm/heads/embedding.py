"""A unit vector for each face, to compare faces or to distil another encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.heads.base import HEADS, TaskHead, mean_of_known


@HEADS.register("embedding")
class EmbeddingHead(TaskHead):
    """Predicts an embedding that points where a teacher's does.

    Args:
        in_dim: D, width of the features.
        size: Length of the embedding.
        dropout: Of the pooled features.

    Example:
        >>> head = EmbeddingHead(4, size=2)
        >>> head.predict(torch.tensor([[3.0, 4.0]]))
        [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, in_dim: int, size: int = 128, *, dropout: float = 0.0) -> None:
        super().__init__(in_dim, size, dropout=dropout, name="embedding", size=size)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return one minus the cosine to a teacher's ``labels`` [B, E], NaN rows where unknown."""
        known = ~labels.isnan().any(1)
        cosine = F.cosine_similarity(outputs.float(), torch.where(known[:, None], labels.float(), 1.0), dim=1)
        return mean_of_known(1 - cosine, known)

    def predict(self, outputs: Tensor) -> list[list[float]]:
        """Return the embedding of each sample, of length one."""
        return F.normalize(outputs.float(), dim=1).tolist()
