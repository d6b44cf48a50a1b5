"""Similarity transforms between faces, and the canonical five-point face.

Coordinates are continuous pixels: pixel (0, 0) covers the square from (0, 0) to (1, 1). A transform is a
2x3 matrix that takes a source point to a target point. The five landmarks are always left eye, right eye,
nose tip, left mouth corner, right mouth corner, where "left" means the smaller x in the picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from facemllm.core.errors import ImageError

Points = npt.NDArray[np.float64]
"""Points as rows of x and y."""

# The usual five-point target of face recognition on 112x112 pixels, as fractions of the side.
# Source: Deng et al. 2019, ArcFace (the template released with it).
_TEMPLATE = (
    np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    / 112.0
)


def canonical_landmarks(size: float = 1.0, scale: float = 1.0) -> Points:
    """Return where an aligned crop of ``size`` pixels has its five landmarks.

    Args:
        size: Side of the crop in pixels; 1 gives fractions of the side.
        scale: How much wider the crop is than the tight recognition crop; landmarks move to the centre.

    Returns:
        Landmarks [5, 2].

    Example:
        >>> canonical_landmarks(112)[2].round(1).tolist()
        [56.0, 71.7]
        >>> canonical_landmarks(112, scale=2.0)[2].round(1).tolist()
        [56.0, 63.9]
    """
    return ((_TEMPLATE - 0.5) / scale + 0.5) * size


def as_landmarks(landmarks: Any) -> Points:
    """Return ``landmarks`` as a float64 array [5, 2].

    Raises:
        ImageError: If they are not five finite points.
    """
    try:
        points = np.asarray(landmarks, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ImageError(
            "landmarks do not describe a face",
            given=f"{type(landmarks).__name__} of shape {points.shape}",
            expected="five finite points [5, 2]: two eyes, nose, two mouth corners",
            do="pass the landmarks of a detected face, or none",
        )
    return points


def similarity_transform(source: Any, target: Any) -> Points:
    """Return the rotation, uniform scale and shift that best take ``source`` to ``target``.

    Source: Umeyama 1991, least-squares estimation of transformation parameters (closed form in the plane,
    where a similarity is multiplication by one complex number and never a reflection).

    Args:
        source: Points [P, 2], not all equal.
        target: Points [P, 2].

    Returns:
        Matrix [2, 3].

    Raises:
        ImageError: If the source points coincide, so that no scale can be found.

    Example:
        >>> matrix = similarity_transform([[0, 0], [1, 0]], [[5, 5], [5, 7]])
        >>> transform_points([[0.5, 0.0]], matrix).round(6).tolist()
        [[5.0, 6.0]]
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    p, q = (source - source_mean) @ [1, 1j], (target - target_mean) @ [1, 1j]
    spread = float(np.vdot(p, p).real)
    if spread < 1e-9:
        raise ImageError(
            "cannot align a face whose landmarks coincide",
            given=f"points around {source_mean.round(2).tolist()}",
            expected="distinct points",
            do="crop without alignment, or detect the face again",
        )
    factor = np.vdot(p, q) / spread
    rotation = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([rotation, target_mean - rotation @ source_mean])


def transform_points(points: Any, matrix: Any) -> Points:
    """Return ``points`` [P, 2] moved by ``matrix`` [2, 3].

    Example:
        >>> transform_points([[1.0, 2.0]], [[2, 0, 1], [0, 2, 0]]).tolist()
        [[3.0, 4.0]]
    """
    points, matrix = np.asarray(points, dtype=np.float64), np.asarray(matrix, dtype=np.float64)
    moved: Points = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def invert_transform(matrix: Any) -> Points:
    """Return the matrix [2, 3] that undoes ``matrix`` [2, 3].

    Example:
        >>> invert_transform([[2, 0, 1], [0, 2, 0]]).tolist()
        [[0.5, 0.0, -0.5], [0.0, 0.5, 0.0]]
    """
    full = np.vstack([np.asarray(matrix, dtype=np.float64), [0.0, 0.0, 1.0]])
    return np.linalg.inv(full)[:2] + 0.0  # + 0.0 turns -0.0 into 0.0
