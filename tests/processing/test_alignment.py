import math

import numpy as np
import pytest

from facemllm.core.errors import ImageError
from facemllm.processing.alignment import (
    as_landmarks,
    canonical_landmarks,
    invert_transform,
    similarity_transform,
    transform_points,
)


def test_similarity_recovers_a_known_transform():
    angle, scale = math.radians(25), 1.7
    matrix = np.array(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), 4],
            [scale * math.sin(angle), scale * math.cos(angle), -9],
        ]
    )
    points = canonical_landmarks(100)
    np.testing.assert_allclose(
        similarity_transform(points, transform_points(points, matrix)), matrix, atol=1e-9
    )


def test_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    # A similarity is linear in (a, b, shift): x' = a x - b y + s, y' = b x + a y + t.
    rows = np.concatenate([[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source])
    a, b, s, t = np.linalg.lstsq(rows, target.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity_transform(source, target), [[a, -b, s], [b, a, t]], atol=1e-9)


def test_mirrored_points_are_not_mirrored_back():
    points = canonical_landmarks()
    matrix = similarity_transform(points, points * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


def test_inverse_undoes():
    matrix = np.array([[1.2, -0.3, 5], [0.3, 1.2, -7]])
    points = canonical_landmarks(64)
    np.testing.assert_allclose(
        transform_points(transform_points(points, matrix), invert_transform(matrix)), points
    )


def test_wider_crops_have_landmarks_nearer_the_centre():
    tight, wide = canonical_landmarks(100, 1.0), canonical_landmarks(100, 2.0)
    np.testing.assert_allclose(wide - 50, (tight - 50) / 2)


def test_coinciding_landmarks_are_refused():
    with pytest.raises(ImageError, match="coincide"):
        similarity_transform(np.ones((5, 2)), canonical_landmarks())


@pytest.mark.parametrize("bad", [[[1, 2]] * 4, [[1, float("nan")]] * 5, "face", None])
def test_wrong_landmarks_are_refused(bad):
    with pytest.raises(ImageError, match="landmarks do not describe a face"):
        as_landmarks(bad)
