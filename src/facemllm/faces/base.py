"""What a face detector is, and the registry of detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from facemllm.core.errors import FaceMLLMError
from facemllm.core.registry import Registry


@dataclass(frozen=True)
class Face:
    """One face found in a picture.

    Attributes:
        box: x1, y1, x2, y2 in continuous pixels of the picture; it may reach over the border.
        score: The detector's confidence, in [0, 1].
        landmarks: Left eye, right eye, nose tip, left and right mouth corner [5, 2] in pixels, where left is
            the smaller x in the picture.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: npt.NDArray[np.float64]

    @property
    def area(self) -> float:
        """Return the area of the box in square pixels."""
        x1, y1, x2, y2 = self.box
        return max(x2 - x1, 0.0) * max(y2 - y1, 0.0)


@runtime_checkable
class FaceDetector(Protocol):
    """Anything callable as ``detector(image, min_score=...)``."""

    def __call__(self, image: Image.Image, *, min_score: float | None = None) -> list[Face]:
        """Return all faces in an RGB picture, in any order.

        Args:
            image: RGB picture.
            min_score: Least score of a face to return; None means the detector's own default.
        """
        ...


DETECTORS: Registry[FaceDetector] = Registry("detector")
"""Detectors by name. Other packages add theirs through the entry-point group ``facemllm.detectors``."""


def faces_from_arrays(
    boxes: npt.NDArray[np.floating], scores: npt.NDArray[np.floating], landmarks: npt.NDArray[np.floating]
) -> list[Face]:
    """Build faces from boxes [F, 4], scores [F] and landmarks [F, 5, 2], putting landmarks in image order.

    Some detectors call "left" what is left to the person. Only whole rows are exchanged, by the eyes' and the
    mouth's own order, so that a head seen upside down keeps its eyes apart from its mouth.

    Raises:
        FaceMLLMError: If the shapes do not fit together.
    """
    count = len(scores)
    if boxes.shape != (count, 4) or landmarks.shape != (count, 5, 2):
        raise FaceMLLMError(
            "a detector's output does not fit",
            given=f"boxes {boxes.shape}, scores {scores.shape}, landmarks {landmarks.shape}",
            expected="[F, 4], [F] and [F, 5, 2]",
            do="correct the detector plug-in",
        )
    faces = []
    for box, score, points in zip(boxes.astype(float), scores, landmarks.astype(np.float64), strict=True):
        points = points.copy()
        for first, second in ((0, 1), (3, 4)):
            if points[first, 0] > points[second, 0]:
                points[[first, second]] = points[[second, first]]
        faces.append(Face(tuple(box.tolist()), float(score), points))
    return faces
