"""What is true of a face once its picture is mirrored.

Left and right are those of the image everywhere in this library, so mirroring exchanges them: in coordinates,
in the order of landmarks, in the signs of pan and roll, and in names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from facemllm.data.schema import FaceSample, Landmarks
from facemllm.data.vocabularies import LANDMARK_SCHEMES

_NAMED = ("attributes", "action_units", "au_intensity", "parts")
_SPOKEN = ("caption", "alt_text", "conversation")
_OTHER = {
    "left": "right",
    "right": "left",
    "Left": "Right",
    "Right": "Left",
    "LEFT": "RIGHT",
    "RIGHT": "LEFT",
}
_SIDE = re.compile(r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)(?![A-Za-z])")
_SAID = re.compile(r"(?<![a-z])(?:left|right)(?:wards?|most)?(?![a-z])|<loc_\d+>", re.IGNORECASE)


def mirror_sample(sample: FaceSample) -> FaceSample:
    """Return a sample as it is after its picture was mirrored left to right.

    Pan and roll change their signs; the box and the landmarks move to the other side, each landmark to the
    place of its opposite; names of attributes and parts that say left or right say the other. Texts that
    speak of sides, or hold location tokens, are dropped: "right" may be a side or an approval, and what
    cannot be known must not be taught. So are box and landmarks where ``size`` is unknown.

    The picture itself is only referred to: whoever mirrors a sample mirrors the pixels.

    Args:
        sample: Of the picture as it is.

    Example:
        >>> sample = FaceSample(id="1", image="1.jpg", size=(100, 80), box=(10, 20, 40, 60), dataset="mine",
        ...                     licence="own", labels={"pose": {"pan": 30, "tilt": 5, "roll": -10}})
        >>> mirrored = mirror_sample(sample)
        >>> mirrored.box, mirrored.labels["pose"]
        ((60.0, 20.0, 90.0, 60.0), {'pan': -30.0, 'tilt': 5.0, 'roll': 10.0})
    """
    labels = {
        task: found for task, value in sample.labels.items() if (found := _label(task, value)) is not None
    }
    update: dict[str, Any] = {"labels": labels, "cannot_tell": tuple(map(_side, sample.cannot_tell))}
    if sample.box is not None or sample.landmarks is not None:
        width = None if sample.size is None else sample.size[0]
        update["box"] = update["landmarks"] = None
        if width is not None and sample.box is not None:
            x1, y1, x2, y2 = sample.box
            update["box"] = (width - x2, y1, width - x1, y2)
        if width is not None and sample.landmarks is not None:
            update["landmarks"] = mirror_landmarks(sample.landmarks, width)
    return sample.model_copy(update=update)


def mirror_landmarks(landmarks: Landmarks, width: float) -> Landmarks:
    """Return the landmarks of a face in the mirror image of its picture.

    Args:
        landmarks: In continuous pixels of the picture: its borders are at 0 and ``width``.
        width: Of the picture, in pixels.

    Example:
        >>> five = Landmarks(scheme="five-1", points=[(30, 40), (60, 41), (45, 60), (35, 75), (55, 76)])
        >>> mirror_landmarks(five, 100).points
        ((40.0, 41.0), (70.0, 40.0), (55.0, 60.0), (45.0, 76.0), (65.0, 75.0))
    """
    opposite = LANDMARK_SCHEMES[landmarks.scheme].opposite
    points = tuple((width - landmarks.points[index][0], landmarks.points[index][1]) for index in opposite)
    return Landmarks(scheme=landmarks.scheme, points=points)


def _label(task: str, value: Any) -> Any:
    """Return a label of the mirrored face, or None where it cannot be known."""
    if task == "pose":
        return {axis: 0.0 - angle if axis in ("pan", "roll") else angle for axis, angle in value.items()}
    if task in _NAMED:
        return _exchanged(value)
    if task in _SPOKEN and _SAID.search(str(value)):
        return None
    return value


def _exchanged(named: Mapping[str, Any]) -> dict[str, Any]:
    """Exchange left and right in names; what no name of a side has stays as it is, in its order."""
    return {_side(name): value for name, value in named.items()}


def _side(name: str) -> str:
    return _SIDE.sub(lambda found: _OTHER[found[0]], name)
