"""Random changes to face crops that leave their labels true (all but the direction of the pose)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT, TURN, ZOOM = 0.08, 0.26, (0.85, 1.12)  # share of the side, radians, factor


def augment(
    pixels: Tensor,
    size: int,
    generator: torch.Generator,
    *,
    out: int | None = None,
    keep: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """Mirror, shift, turn, zoom, recolour, blur and cover crops at random.

    Some colour photos are turned grey and some are reduced to 48 pixels, because expression datasets are grey
    and small: without it, a model learns the look of a dataset instead of the face.

    Args:
        pixels: Crops with their margin [B, W, W, 3], uint8.
        size: Side S of what the model sees of a crop, in pixels of the crop.
        generator: Of all randomness.
        out: Side of the result, if it is another: the same view in fewer pixels.
        keep: Which crops to compute, b of them; each is changed as it is among all.

    Returns:
        Images [b, 3, S, S] with values in [0, 1], and which of all crops are mirrored [B].

    Example:
        >>> images, mirrored = augment(torch.zeros(2, 48, 48, 3, dtype=torch.uint8), 32, torch.Generator())
        >>> images.shape, mirrored.dtype
        (torch.Size([2, 3, 32, 32]), torch.bool)
    """
    images = pixels[keep].permute(0, 3, 1, 2).float() / 255
    batch, wide = pixels.shape[0], images.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator) * (high - low) + low

    def lucky(share: float) -> Tensor:
        return torch.rand(batch, generator=generator) < share

    mirrored = lucky(0.5)
    zoom, turn, shift = uniform(*ZOOM), uniform(-TURN, TURN), uniform(-SHIFT, SHIFT, 2)
    cos, sin = torch.cos(turn) * zoom * size / wide, torch.sin(turn) * zoom * size / wide
    side = torch.where(mirrored, -1.0, 1.0)
    matrix = torch.stack(
        [torch.stack([cos * side, -sin, shift[:, 0]], 1), torch.stack([sin * side, cos, shift[:, 1]], 1)], 1
    )
    size = size if out is None else out
    grid = F.affine_grid(matrix[keep], [len(images), 3, size, size], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)

    grey = lucky(0.2)[keep]
    images[grey] = images[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    mean = images.mean((1, 2, 3), keepdim=True)
    contrast, brightness = uniform(0.7, 1.3, 1, 1, 1)[keep], uniform(0.7, 1.3, 1, 1, 1)[keep]
    images = (images - mean) * contrast + mean * brightness
    tint = 1 + 0.08 * torch.randn(batch, 3, 1, 1, generator=generator)[keep] * (~grey)[:, None, None, None]
    images = (images * tint).clamp(0, 1)

    small = lucky(0.2)[keep]
    if small.any():
        reduced = F.interpolate(images[small], size=(48, 48), mode="bilinear", antialias=True)
        images[small] = F.interpolate(reduced, size=(size, size), mode="bilinear")
    place = {index: row for row, index in enumerate(range(batch)[keep])}
    for index in torch.nonzero(lucky(0.25)).flatten().tolist():
        height, width = torch.randint(size // 9, size // 3, (2,), generator=generator).tolist()
        top, left = (int(torch.randint(0, size - s, (1,), generator=generator)) for s in (height, width))
        colour = torch.rand(3, 1, 1, generator=generator)
        if index in place:
            images[place[index], :, top : top + height, left : left + width] = colour
    return images, mirrored


def centre_views(pixels: Tensor, size: int) -> Tensor:
    """Return crops [B, W, W, 3] as the model sees them when it is asked: [B, 3, S, S], values in [0, 1]."""
    margin = (pixels.shape[1] - size) // 2
    kept = pixels[:, margin : margin + size, margin : margin + size]
    return kept.permute(0, 3, 1, 2).float() / 255


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalise images [B, 3, S, S] with values in [0, 1] channel by channel."""
    return (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
