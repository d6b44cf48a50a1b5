"""BIWI Kinect Head Pose: 15,678 frames of 20 people who turned their heads before a depth camera.

``frame_00003_pose.txt`` holds a rotation matrix in three lines, and the head's place (mm) in another. Angles
are taken out as roll = atan2(R10, R00), yaw = atan2(-R20, sqrt(R21^2 + R22^2)), pitch = -atan2(R21, R22):
positive yaw turns the face to the image's left, positive pitch up, positive roll clockwise in the image.
Source: Fanelli et al., "Random Forests for Real Time 3D Face Analysis", IJCV 2013; formulas of the protocol
of Ruiz, Chong and Rehg, arXiv 1710.00925.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from facemllm.data.readers.base import READERS, VOLUNTEERS, Reader, Unusable, names_in
from facemllm.data.schema import FaceSample
from facemllm.data.splits import SPLITS, split_by_rank

_FOLDER = re.compile(r"\d{2}")
_FRAME = re.compile(r"frame_\d{5}_rgb\.png")
_TOLERANCE = 0.05  # how far the rows of a rotation may be from orthonormal
_SAT_AGAIN = {"15": "03", "18": "05", "21": "02", "22": "07"}  # folder: first folder of the same person


@READERS.register("biwi")
class BIWI(Reader):
    """No official split: whole people, ranked by a seeded hash; at least one for val and two for test.

    The 24 folders are of 20 people: four sat twice, and the list in the dataset's own readme says who. Both
    folders of one of them have the identity of the first, and come up in one split.
    """

    name = "biwi"
    licence = "non-commercial, such as university research and education"
    layout = "folders 01/ ... 24/ with frame_00003_rgb.png and frame_00003_pose.txt (rotation, translation)"
    splits = SPLITS
    folders = ("biwi", "hpdb", "faces_0", "kinect_head_pose_db")
    consent = VOLUNTEERS

    def recognises(self, folder: Path) -> bool:
        """Say whether the files of the layout are here."""
        return any(_is_frame(path.name) for film in _films(folder) for path in film.iterdir())

    def read(self) -> Iterator[FaceSample]:
        """Yield the samples of all splits."""
        films = _films(self.root)
        splits = split_by_rank([_person(folder) for folder in films], self.seed)
        for folder in films:
            for name in names_in(folder, _is_frame):
                yield from self.attempt(
                    f"{folder.name}/", name, self._read_frame, folder / name, splits[_person(folder)]
                )

    def _read_frame(self, image: Path, split: str) -> FaceSample:
        pan, tilt, roll = angles(_rotation(image.with_name(image.name.replace("_rgb.png", "_pose.txt"))))
        person = _person(image.parent)
        return self.sample(
            image,
            labels={"pose": {"pan": pan, "tilt": tilt, "roll": roll}},
            groups={"person": person},
            split=split,
            identity=person,
        )


def angles(rotation: list[list[float]]) -> tuple[float, float, float]:
    """Return pan, tilt and roll of a rotation matrix [3, 3], in degrees.

    Example:
        >>> angles([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
        (0.0, 0.0, 0.0)
    """
    r = rotation
    pan = math.atan2(-r[2][0], math.hypot(r[2][1], r[2][2]))
    tilt, roll = -math.atan2(r[2][1], r[2][2]), math.atan2(r[1][0], r[0][0])
    return math.degrees(pan) + 0.0, math.degrees(tilt) + 0.0, math.degrees(roll) + 0.0


def _is_frame(name: str) -> bool:
    return _FRAME.fullmatch(name) is not None


def _films(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir() and _FOLDER.fullmatch(child.name))


def _person(folder: Path) -> str:
    return _SAT_AGAIN.get(folder.name, folder.name)


def _rotation(path: Path) -> list[list[float]]:
    try:
        lines = [line.split() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        rows = [[float(value) for value in line] for line in lines[:3]]
    except (OSError, ValueError):
        raise Unusable("no rotation in the pose file beside it") from None
    if [len(row) for row in rows] != [3, 3, 3]:
        raise Unusable("no rotation in the pose file beside it")
    for i in range(3):
        for j in range(3):
            product = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            if not abs(product - (i == j)) <= _TOLERANCE:
                raise Unusable("pose file holds no rotation")
    return rows
