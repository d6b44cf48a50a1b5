"""A face to a square crop, a crop to a tensor; and :func:`load_image`, which reads the picture before both.

Training and inference go through the same functions, so they see the same pixels. Coordinates are
continuous pixels (see :mod:`facemllm.processing.alignment`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from facemllm.core.errors import ImageError
from facemllm.processing.alignment import (
    Points,
    as_landmarks,
    canonical_landmarks,
    invert_transform,
    similarity_transform,
    transform_points,
)
from facemllm.processing.reading import MAX_PIXELS, MIN_SIDE, load_image

__all__ = ["MAX_PIXELS", "MIN_SIDE", "Crop", "crop_face", "load_image", "to_tensor"]


@dataclass(frozen=True)
class Crop:
    """A square cut out of a picture.

    Attributes:
        image: The cut, RGB, ``size`` x ``size``.
        landmarks: Five points [5, 2] in pixels of the cut, or None.
        matrix: Transform [2, 3] from the picture to the cut.
    """

    image: Image.Image
    landmarks: Points | None
    matrix: Points

    def to_picture(self, points: Any) -> Points:
        """Return ``points`` [P, 2] of the cut in pixels of the picture it came from."""
        return transform_points(points, invert_transform(self.matrix))


def crop_face(
    image: Image.Image,
    box: Sequence[float],
    landmarks: Any = None,
    size: int = 112,
    scale: float = 1.3,
    align: bool = False,
) -> Crop:
    """Cut a face out as a square, with antialiasing; landmarks move with the pixels.

    Beyond the picture's border its edge pixels are repeated: a black frame would be a strong artificial edge
    that tells a model where in the photo the face was, and that tight dataset crops would not have.

    Args:
        image: RGB picture.
        box: x1, y1, x2, y2 in pixels; it may reach over the border.
        landmarks: Five points [5, 2] in pixels of the picture, if known.
        size: Side of the cut, in pixels.
        scale: Side of the cut over the longer side of the box; when aligning, over the tight aligned crop.
        align: Rotate and scale so that the landmarks come nearest to the canonical face.

    Raises:
        ImageError: If the box is empty or outside the picture, or landmarks are missing or not five points.

    Example:
        >>> photo = Image.new("RGB", (100, 80))
        >>> crop = crop_face(photo, (40, 30, 60, 50), landmarks=[[50, 40]] * 5, size=64, scale=1.6)
        >>> crop.image.size, crop.landmarks[0].tolist()
        ((64, 64), [32.0, 32.0])
    """
    points = None if landmarks is None else as_landmarks(landmarks)
    if size < 1 or not scale > 0:
        raise ImageError(
            "cannot crop", given=f"size={size}, scale={scale}", expected="positive numbers", do="correct them"
        )
    x1, y1, x2, y2 = _checked_box(box, image.size, scale)
    if align:
        if points is None:
            raise ImageError(
                "cannot align a face",
                given="no landmarks",
                expected="five landmarks",
                do="detect the face, or pass align=False",
            )
        matrix = similarity_transform(points, canonical_landmarks(size, scale))
    else:
        zoom = size / (scale * max(x2 - x1, y2 - y1))
        matrix = np.array(
            [[zoom, 0.0, size / 2 - zoom * (x1 + x2) / 2], [0.0, zoom, size / 2 - zoom * (y1 + y2) / 2]]
        )
    moved = None if points is None else transform_points(points, matrix)
    return Crop(_warp(image, matrix, size), moved, matrix)


def to_tensor(
    image: Image.Image,
    size: int,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> torch.Tensor:
    """Resize a picture to a square and normalise it.

    Args:
        image: RGB picture.
        size: Side of the result S, in pixels.
        mean: Of the channels, values in [0, 1].
        std: Of the channels, values in [0, 1].

    Returns:
        Tensor [3, S, S], float32.

    Example:
        >>> to_tensor(Image.new("RGB", (9, 9), "white"), size=4)[:, 0, 0].tolist()
        [1.0, 1.0, 1.0]
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1) / 255.0
    return ((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).contiguous()


def _checked_box(
    box: Sequence[float], picture: tuple[int, int], scale: float
) -> tuple[float, float, float, float]:
    values = [float(value) for value in box]
    if len(values) == 4 and all(map(math.isfinite, values)):
        x1, y1, x2, y2 = values
        inside = min(x2, picture[0]) > max(x1, 0) and min(y2, picture[1]) > max(y1, 0)
        # The side is bounded so that a mistaken box cannot ask for gigabytes of padding.
        if inside and scale * max(x2 - x1, y2 - y1) <= 16 * max(picture):
            return x1, y1, x2, y2
    raise ImageError(
        "a face box does not fit the picture",
        given=[round(value, 2) for value in values],
        expected=f"x1 < x2 and y1 < y2 that overlap a picture of {picture[0]}x{picture[1]} pixels",
        do="pass pixels, not fractions, as x1, y1, x2, y2",
    )


def _warp(image: Image.Image, matrix: Points, size: int) -> Image.Image:
    """Resample ``image`` through ``matrix`` [2, 3] to ``size`` x ``size``."""
    inverse = invert_transform(matrix)
    corners = transform_points([[0, 0], [size, 0], [0, size], [size, size]], inverse)
    # Two output pixels of margin, so that resampling at the border sees real neighbours.
    step = math.hypot(*inverse[:, 0])
    low, high = corners.min(axis=0) - 2 * step - 2, corners.max(axis=0) + 2 * step + 2
    left, top, right, bottom = (int(v) for v in (*np.floor(low), *np.ceil(high)))
    region = _padded_region(image, left, top, right, bottom)
    if abs(inverse[0, 1]) < 1e-9:  # no rotation: one exact antialiased resize
        (x1, y1), (x2, y2) = corners[0] - (left, top), corners[3] - (left, top)
        return region.resize((size, size), Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
    # Affine resampling looks at 4x4 pixels only, so shrink by a whole factor first to average the rest.
    factor = max(1, int(step))
    region = region.reduce(factor) if factor > 1 else region
    inverse = (inverse - np.array([[0, 0, left], [0, 0, top]])) / factor
    return region.transform(
        (size, size), Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BICUBIC
    )


def _padded_region(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    width, height = image.size
    inner = (
        min(max(left, 0), width - 1),
        min(max(top, 0), height - 1),
        max(min(right, width), 1),
        max(min(bottom, height), 1),
    )
    region = image.crop(inner)
    pad = (max(-left, 0), max(-top, 0), max(right - width, 0), max(bottom - height, 0))
    if not any(pad):
        return region
    pixels = np.pad(
        np.asarray(region.convert("RGB")), ((pad[1], pad[3]), (pad[0], pad[2]), (0, 0)), mode="edge"
    )
    return Image.fromarray(pixels)
