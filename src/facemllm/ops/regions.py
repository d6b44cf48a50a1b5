"""Face regions on a grid of features: where they are, and what the features say there.

Positions are fractions of the picture's side, so they fit a grid of any resolution: (0, 0) is the upper left
corner of the picture and (1, 1) the lower right one. Cell (i, j) of a grid of G cells has its centre at
((j + 0.5) / G, (i + 0.5) / G).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facemllm.core.errors import ConfigError

# Each region is centred on a mean of landmarks, moved down the face by a part of the way from eyes to mouth,
# with a width and height in units of the face (about the distance between the eyes, seen from the front).
REGIONS: dict[str, tuple[tuple[int, ...], float, float, float]] = {
    "eyes": ((0, 1), 0.0, 1.9, 0.6),
    "brows": ((0, 1), -0.38, 2.1, 0.5),
    "nose": ((2,), -0.1, 0.9, 0.9),
    "mouth": ((3, 4), 0.0, 1.4, 0.8),
    "jaw": ((3, 4), 0.55, 1.8, 0.9),
}
"""Region name -> (landmarks, shift down the face, width, height)."""


def region_boxes(landmarks: Tensor, regions: Sequence[str] = tuple(REGIONS)) -> Tensor:
    """Return boxes around the regions of faces, from their five landmarks.

    The boxes follow the face's roll (they bound the turned region) and keep their size on a head turned
    aside, where the eyes come close to each other.

    Args:
        landmarks: Five points [B, 5, 2], in any unit.
        regions: Keys of :data:`REGIONS`.

    Returns:
        Boxes [B, R, 4] as x1, y1, x2, y2, in the unit of the landmarks.

    Raises:
        ConfigError: If a region is unknown or the shape does not fit.

    Example:
        >>> points = torch.tensor([[[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]])
        >>> [round(v, 2) for v in region_boxes(points, ["eyes"])[0, 0].tolist()]
        [0.22, 0.31, 0.78, 0.49]
    """
    unknown = [name for name in regions if name not in REGIONS]
    if unknown or landmarks.shape[-2:] != (5, 2) or landmarks.ndim != 3:
        raise ConfigError(
            "cannot place face regions",
            given=f"regions {list(regions)}, landmarks {tuple(landmarks.shape)}",
            expected=f"regions of {', '.join(REGIONS)}; landmarks [B, 5, 2]",
            do="correct the names or pass five landmarks a face",
        )
    eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
    down = mouth - eyes  # [B, 2]
    height = down.norm(dim=-1).clamp_min(1e-6)
    unit = torch.maximum((landmarks[:, 1] - landmarks[:, 0]).norm(dim=-1), 0.87 * height)[:, None]  # [B, 1]
    cos, sin = (down / height[:, None]).abs().flip(-1).unbind(-1)  # of the roll
    boxes = []
    for name in regions:
        points, shift, wide, tall = REGIONS[name]
        centre = landmarks[:, list(points)].mean(1) + shift * down
        half = torch.stack([wide * cos + tall * sin, wide * sin + tall * cos], -1) * unit / 2
        boxes.append(torch.cat([centre - half, centre + half], -1))
    return torch.stack(boxes, 1)


def region_pool(grid: Tensor, boxes: Tensor, *, bins: int = 3) -> Tensor:
    """Average features inside boxes, by bilinear samples on a regular lattice (RoI align).

    Source: He et al. 2017, Mask R-CNN, section 3 (RoIAlign).

    Args:
        grid: Features [B, D, G, G] (the sides may differ).
        boxes: x1, y1, x2, y2 as fractions of the picture [B, R, 4]; they are cut off at its border.
        bins: Cells a side a box is divided into; each takes the mean of 2x2 samples.

    Returns:
        Pooled features [B, R, D].

    Example:
        >>> grid = torch.arange(4.0).view(1, 1, 2, 2)
        >>> region_pool(grid, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])).item()
        1.5
    """
    from torchvision.ops import roi_align

    batch, count = boxes.shape[:2]
    dtype = torch.promote_types(grid.dtype, torch.float32)  # bfloat16 has no kernel on the CPU
    sides = torch.tensor([grid.shape[3], grid.shape[2]] * 2, dtype=dtype, device=grid.device)
    rois = boxes.to(grid.device, dtype).clamp(0, 1) * sides
    index = torch.arange(batch, dtype=dtype, device=grid.device).repeat_interleave(count)
    rois = torch.cat([index[:, None], rois.flatten(0, 1)], 1)
    pooled = roi_align(grid.to(dtype), rois, output_size=bins, sampling_ratio=2, aligned=True)
    return pooled.mean((2, 3)).view(batch, count, -1).to(grid.dtype)


def sample_points(grid: Tensor, points: Tensor) -> Tensor:
    """Read features at points, bilinearly; beyond the outermost cell centres the border's value holds.

    Args:
        grid: Features [B, D, G, G] (the sides may differ).
        points: x, y as fractions of the picture [B, P, 2].

    Returns:
        Features [B, P, D].

    Example:
        >>> grid = torch.arange(4.0).view(1, 1, 2, 2)
        >>> sample_points(grid, torch.tensor([[[0.25, 0.25], [0.5, 0.25]]])).flatten().tolist()
        [0.0, 0.5]
    """
    dtype = torch.promote_types(grid.dtype, torch.float32)  # bfloat16 has 3 digits for a place in the picture
    lattice = (points.to(grid.device, dtype) * 2 - 1).unsqueeze(2)  # [B, P, 1, 2] in [-1, 1]
    sampled = F.grid_sample(
        grid.to(dtype), lattice, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.squeeze(3).transpose(1, 2).to(grid.dtype)
