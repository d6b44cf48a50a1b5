"""300W-LP and AFLW2000-3D: head poses and 68 landmarks in a MATLAB file beside each picture.

``Pose_Para`` holds pitch, yaw and roll in radians. As the common protocol draws them, positive yaw turns the
face to the image's left, positive pitch turns it up, and positive roll turns it clockwise in the image, so
they are pan, tilt and roll here without a change of sign. The .mat files are read as data; nothing in them
is run.
Source: Zhu et al., "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016; protocol of Ruiz, Chong and
Rehg, arXiv 1710.00925.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facemllm.core.errors import MissingExtraError
from facemllm.data.readers.base import NOT_ASKED, READERS, Reader, Unusable, images_in, is_picture
from facemllm.data.schema import FaceSample, Landmarks
from facemllm.data.splits import SPLITS, split_by_hash

_WANTED = ("Pose_Para", "pt2d", "pt3d_68", "pt2d_68")

LARGEST = 99.0
"""The common protocol leaves out pictures with an angle beyond this, in degrees."""


class MatPose(Reader):
    """What both datasets share: a picture, and a .mat file of the same name."""

    licence = "non-commercial research"
    consent = NOT_ASKED
    points: tuple[str, ...]

    def recognises(self, folder: Path) -> bool:
        """Say whether pictures with .mat files are here."""
        return any(_has_pair(place) for place in self.places(folder))

    def places(self, folder: Path) -> list[Path]:
        """Return the folders that may hold pictures."""
        return [folder]

    @abstractmethod
    def split(self, image: Path) -> str:
        """Return the split of a picture."""

    def read(self) -> Iterator[FaceSample]:
        """Yield every picture whose pose lies within the protocol's range."""
        try:
            import scipy.io  # noqa: F401 (asked for once, not in every file)
        except ImportError:
            raise MissingExtraError("scipy", extra="data", needed_for="reading .mat files") from None
        for folder in self.places(self.root):
            for image in images_in(folder):
                where = f"{folder.relative_to(self.root).as_posix()}/"
                yield from self.attempt(where, image.name, self._read_image, image)

    def _read_image(self, image: Path) -> FaceSample:
        found = _load(image.with_suffix(".mat"))
        pitch, yaw, roll = _angles(found)
        if max(abs(pitch), abs(yaw), abs(roll)) > LARGEST:
            raise Unusable(f"an angle is beyond {LARGEST:g} degrees, which the protocol leaves out")
        return self.sample(
            image,
            labels={"pose": {"pan": yaw, "tilt": pitch, "roll": roll}},
            landmarks=next((_points(found[key]) for key in self.points if key in found), None),
            split=self.split(image),
            identity=_person(image),
        )


@READERS.register("300wlp")
class LP300W(MatPose):
    """300W-LP, made from 300W by turning faces in three dimensions: 122,450 pictures, no official test.

    Seeded 80/10/10 split by the photo each was made from; ``*_Flip`` folders mirror the others and follow
    them.
    """

    name = "300wlp"
    layout = (
        "folders AFW/, HELEN/, IBUG/, LFPW/ and *_Flip/, each with x.jpg and x.mat (Pose_Para in radians)"
    )
    splits = SPLITS
    folders = ("300w_lp", "300w-lp", "300wlp")
    points = ("pt2d",)

    def places(self, folder: Path) -> list[Path]:
        """Return the folders of the parts, without the one that holds landmarks alone."""
        parts = (child for child in sorted(folder.iterdir()) if child.is_dir())
        return [child for child in parts if child.name.lower() not in ("landmarks", "code")]

    def split(self, image: Path) -> str:
        """Return the split of the photo that the picture was made from."""
        return split_by_hash(_person(image), self.seed)


@READERS.register("aflw2000")
class AFLW2000(MatPose):
    """AFLW2000-3D: 2,000 photos, all for testing. The protocol's limit leaves 1,969."""

    name = "aflw2000"
    layout = "image00002.jpg and image00002.mat (Pose_Para in radians) ... in one folder"
    splits = ("test",)
    folders = ("aflw2000", "aflw2000-3d")
    points = ("pt3d_68", "pt2d_68")

    def split(self, image: Path) -> str:
        """Return ``test``."""
        return "test"


def _has_pair(folder: Path) -> bool:
    # A handful is enough to tell, and a folder may be large.
    pictures = (path for path, _ in zip(folder.iterdir(), range(2000), strict=False) if is_picture(path.name))
    return any(path.with_suffix(".mat").is_file() for path in pictures)


def _person(image: Path) -> str:
    """Return the photo that a picture was made from: AFW_1051618982_1_3.jpg is of AFW_1051618982_1."""
    stem, _, number = image.stem.rpartition("_")
    return stem if stem and number.isdecimal() else image.stem


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        return dict(loadmat(str(path), variable_names=_WANTED))
    except FileNotFoundError:
        raise Unusable("no .mat file beside it") from None
    except Exception:  # noqa: BLE001 (broken files raise nearly anything)
        raise Unusable("unreadable .mat file") from None


def _angles(found: dict[str, Any]) -> list[float]:
    try:
        angles = [math.degrees(float(angle)) for angle in found["Pose_Para"].reshape(-1)[:3]]
    except (KeyError, AttributeError, ValueError, TypeError):
        raise Unusable("no Pose_Para in the .mat file") from None
    if len(angles) != 3 or not all(map(math.isfinite, angles)):
        raise Unusable("Pose_Para does not begin with three angles")
    return angles


def _points(array: Any) -> Landmarks | None:
    """Return 68 landmarks, unless they are marked as missing with -1."""
    if getattr(array, "ndim", 0) != 2 or array.shape[0] < 2 or array.shape[1] != 68 or (array[:2] < 0).all():
        return None
    points = tuple((float(x), float(y)) for x, y in zip(array[0], array[1], strict=True))
    return Landmarks(scheme="ibug68-1", points=points)
