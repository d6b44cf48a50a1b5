"""The head's rotation as a whole, without the seams that angles have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.heads.base import HEADS, TaskHead, mean_of_known


@HEADS.register("rotation")
class RotationHead(TaskHead):
    """Predicts a rotation matrix through six numbers, which is a continuous map.

    Angles follow 300W-LP and BIWI: R = Rz(roll) Ry(yaw) Rx(pitch).

    Source: Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", arXiv 1812.07035,
    eq. 14 to 16; for heads: 6DRepNet, arXiv 2202.12555.

    Args:
        in_dim: D, width of the features.
        dropout: Of the pooled features.

    Example:
        >>> head = RotationHead(4)
        >>> matrix = head.matrix(torch.tensor([[1.0, 0, 0, 0, 1, 0]]))
        >>> torch.equal(matrix[0], torch.eye(3))
        True
    """

    def __init__(self, in_dim: int, *, dropout: float = 0.0) -> None:
        super().__init__(in_dim, 6, dropout=dropout, name="rotation")

    def matrix(self, outputs: Tensor) -> Tensor:
        """Map raw outputs [B, 6] to rotation matrices [B, 3, 3] (their columns by Gram-Schmidt)."""
        first, second = outputs.float().chunk(2, dim=1)
        x = F.normalize(first, dim=1)
        y = F.normalize(second - (x * second).sum(1, keepdim=True) * x, dim=1)
        return torch.stack([x, y, torch.linalg.cross(x, y)], dim=2)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean geodesic distance in radians to ``labels`` [B, 3, 3], NaN where unknown."""
        known = ~labels.isnan().any(-1).any(-1)
        wanted = torch.where(known[:, None, None], labels.float(), torch.eye(3, device=labels.device))
        return mean_of_known(geodesic_distance(self.matrix(outputs), wanted), known)

    def predict(self, outputs: Tensor) -> list[dict[str, float]]:
        """Return yaw, pitch and roll of each sample in degrees."""
        r = self.matrix(outputs)
        yaw = torch.atan2(-r[:, 2, 0], torch.hypot(r[:, 2, 1], r[:, 2, 2]))
        pitch, roll = torch.atan2(r[:, 2, 1], r[:, 2, 2]), torch.atan2(r[:, 1, 0], r[:, 0, 0])
        rows = torch.rad2deg(torch.stack([yaw, pitch, roll], 1)).tolist()
        return [dict(zip(("yaw", "pitch", "roll"), row, strict=True)) for row in rows]


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle in radians between rotations [B, 3, 3].

    Computed by atan2 of the sine and cosine: arccos alone has no usable gradient at small angles.

    Example:
        >>> geodesic_distance(torch.eye(3)[None], torch.eye(3)[None])
        tensor([0.])
    """
    relative = first.transpose(1, 2) @ second
    skew = relative - relative.transpose(1, 2)
    axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1)
    sine = torch.linalg.vector_norm(axis, dim=1) / 2
    cosine = (relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    return torch.atan2(sine, cosine)


def rotation_matrix(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Return R = Rz(roll) Ry(yaw) Rx(pitch) [B, 3, 3] for angles in degrees [B]."""
    (sy, cy), (sp, cp), (sr, cr) = (
        (torch.sin(a), torch.cos(a)) for a in map(torch.deg2rad, (yaw, pitch, roll))
    )
    rows = [
        torch.stack([cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp], 1),
        torch.stack([sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp], 1),
        torch.stack([-sy, cy * sp, cy * cp], 1),
    ]
    return torch.stack(rows, 1)
