"""Angles of the head, each by itself: for labels such as pan and tilt that make no full rotation."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from facemllm.heads.base import HEADS, TaskHead, checked_names, mean_of_known

UNIT = 90.0  # degrees for an output of one: keeps outputs near the size of other heads'


@HEADS.register("angles")
class AnglesHead(TaskHead):
    """Predicts named angles in degrees.

    Args:
        in_dim: D, width of the features.
        angles: Their names, each once.
        dropout: Of the pooled features.

    Raises:
        ConfigError: If there are no angles, or one is named twice.

    Example:
        >>> import torch
        >>> AnglesHead(4, angles=["pan", "tilt"]).predict(torch.tensor([[0.5, 0.0]]))
        [{'pan': 45.0, 'tilt': 0.0}]
    """

    def __init__(self, in_dim: int, angles: Sequence[str] = ("pan", "tilt"), *, dropout: float = 0.0) -> None:
        names = checked_names("angles", angles)
        super().__init__(in_dim, len(names), dropout=dropout, name="angles", angles=names)
        self.angles = tuple(names)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return smooth L1 in units of 30 degrees; ``labels`` [B, A] in degrees, NaN where unknown."""
        known = ~labels.isnan()
        losses = F.smooth_l1_loss(
            outputs.float() * UNIT / 30, labels.nan_to_num().float() / 30, reduction="none"
        )
        return mean_of_known(losses, known)

    def predict(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return the angles of each sample in degrees, by name."""
        return [dict(zip(self.angles, row, strict=True)) for row in (outputs.float() * UNIT).tolist()]
