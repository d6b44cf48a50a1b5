"""The angle between two head poses: one number for pan, tilt and roll together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facemllm.evaluation.bootstrap import Array
from facemllm.evaluation.extras import need


def geodesic_degrees(truth: Sequence[Mapping[str, float]], predicted: Sequence[Mapping[str, float]]) -> Array:
    """Return the angle of the rotation from each predicted pose to the true one, in degrees [n].

    A head turns by pan about the vertical, then by tilt about its own ears, then by roll about its own nose.
    An angle that a pose lacks counts as zero.

    Source: Hempel et al., arXiv 2202.12555, equation 5 (the geodesic distance on SO(3)).

    Example:
        >>> truth = [{"pan": 30, "tilt": 0}, {"pan": 90, "tilt": 45}]
        >>> predicted = [{"pan": 10, "tilt": 0}, {"pan": 90, "tilt": 60}]
        >>> [round(float(angle), 3) for angle in geodesic_degrees(truth, predicted)]
        [20.0, 15.0]
    """
    rotation = need("scipy.spatial.transform", "angles between poses").Rotation
    if not truth:
        return np.zeros(0)
    one, other = (
        rotation.from_euler(
            "YXZ", [[pose.get(axis, 0.0) for axis in ("pan", "tilt", "roll")] for pose in poses], degrees=True
        )
        for poses in (truth, predicted)
    )
    return np.asarray(np.degrees((one.inv() * other).magnitude()))
